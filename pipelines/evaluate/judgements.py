"""From the codes of a judgement file to gains."""

from collections import Counter
from collections.abc import Mapping

from pipelines.evaluate.config import Gain

Codes = Mapping[str, Mapping[str, int]]


def gains(codes: Codes, rule: Gain) -> tuple[dict[str, dict[str, int]], str]:
    """Gains by document by query, and in a line how they were taken.

    A negative score is no grade. In some collections the scores are codes of why a document answers, as
    Cranfield's 1 to 4 and -1, the paper that the question came from. In others (TREC's web tracks) -2 is
    spam: there `graded` must be asked for.

    Args:
        codes: Scores as the file has them.
        rule: See `EvaluateConfig.gain`.
    """
    counts = Counter(code for judged in codes.values() for code in judged.values())
    seen = ", ".join(str(code) for code in sorted(counts))
    if rule == "binary" or (rule == "auto" and min(counts, default=0) < 0):
        why = "a score is negative, so they are codes" if rule == "auto" else "as asked for"
        said = f"gains: 1 for every code but 0, of {seen} ({why}; --gain graded takes them as grades)"
        return {
            query: {document: int(code != 0) for document, code in judged.items()}
            for query, judged in codes.items()
        }, said
    return {
        query: {document: max(code, 0) for document, code in judged.items()}
        for query, judged in codes.items()
    }, f"gains: the scores, {seen}"
