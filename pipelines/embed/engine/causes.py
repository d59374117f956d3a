"""What is behind the errors that Ray raises."""

from pipelines.errors import EmbedlakeError


def unwrapped(error: BaseException) -> BaseException:
    """The domain error that a worker raised, out of Ray's wrappings; `error` itself where there is none."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, EmbedlakeError):
            # Ray's wrapper is a class made from the error's and its own: give the plain one back.
            cause = getattr(link, "cause", None)
            return cause if isinstance(cause, EmbedlakeError) else link
        link = getattr(link, "cause", None) or link.__cause__ or link.__context__
    return error


def dead_actor(error: BaseException) -> str | None:
    """The id of the actor whose death an error tells of, if it does."""
    link: BaseException | None = error
    while link is not None:
        found = getattr(link, "actor_id", None)
        if found:
            return str(found if isinstance(found, str) else found.hex())
        link = getattr(link, "cause", None) or link.__cause__
    return None


def line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:300]
