"""The normal form of a document's text, in which it is hashed, compared, chunked and counted."""

import hashlib
import re
import unicodedata

# C0 and C1 controls without tab and newline, the byte-order mark, and noncharacters.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_NEWLINE = re.compile("\r\n|\r|\x85|\u2028|\u2029")
# Something that a reader or a tokenizer would see: neither space, nor control, nor a lone combining mark.
_INVISIBLE = frozenset("ZCM")


def normalise(text: str) -> str:
    """`text` in Unicode NFC, with Unix newlines, without control characters and outer white space.

    Idempotent: normalising twice changes nothing. May return an empty string.
    """
    if _UNWANTED.search(text):  # once over what most texts are without
        text = _NEWLINE.sub("\n", text)
        text = _CONTROL.sub("", text)
    # Removing a control can bring characters together that compose, so NFC comes after it.
    return unicodedata.normalize("NFC", text).strip()


def is_blank(text: str) -> bool:
    """Whether nothing in `text` can be seen: only white space, controls and combining marks."""
    return all(unicodedata.category(character)[0] in _INVISIBLE for character in text)


def text_hash(text: str) -> str:
    """128-bit BLAKE2b of the text's UTF-8, in hex: equal hashes are taken as equal texts.

    At 10 billion texts the chance of any collision is about 1.5e-19.
    """
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()
