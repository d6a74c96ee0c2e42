"""Take out of any text what must never be shown: signatures, credentials, tokens, passwords, presigned queries.

A net under code that should not put secrets there, applied to every log line and to the details of audit records. It
knows shapes (`X-Amz-Signature=…`, `Authorization: …`, `//user:password@`), not values, and rather hides too much. Its
patterns are linear in the text: nobody slows the log down by what he sends.
"""

import re
from functools import lru_cache

__all__ = ["HIDDEN", "is_secret_name", "redact"]

HIDDEN = "***"
_SHORT = 40
_WORD = (
    r"(?:authorization|signature|credential|secret|passw(?:or)?d|passphrase|token|api[-_]?key|access[-_]?key"
    r"|private[-_]?key|cookie|x-prism-upload|(?:(?<![a-z])|(?<=%[0-9a-f]{2})|(?<=%25[0-9a-f]{2}))(?:sig|pwd)(?![a-z]))"
)
_NAME = rf"{_WORD}[\w-]{{0,40}}"
_VALUE = r"\"(?:[^\"\\]|\\.)*+(?:\"|\\?\Z)|'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|(\\+[\"']).*?(?:\2|\Z)|[^\s,}\])\"'\\]+"
_SECRET_NAME = re.compile(_WORD, re.IGNORECASE)
# One of these stands, in lower case, in everything that the rules below find; looking for them is much faster.
_CLUES = (
    *("auth", "sig", "cred", "secret", "pass", "pwd", "token", "key", "cookie", "x-prism-upload"),
    *("bearer", "basic", "aws4", "@", "eyj", "gaaaa"),
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A private key in PEM, cut short or not.
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END|\Z)", re.DOTALL), HIDDEN),
    # Names in quotes: JSON, also inside a JSON string, dictionaries, header lists as Python shows them.
    (re.compile(rf"({_NAME}\\*[\"']\s{{0,3}}(?:=>|[:=,])\s{{0,3}}b?)(?:{_VALUE})", re.I | re.DOTALL), rf"\1{HIDDEN}"),
    # name=value, in queries (encoded once or twice, too), forms and messages.
    (re.compile(rf"({_NAME}\s{{0,3}}(?:=>?|%(?:25)?3D)\s{{0,3}}b?)(?:{_VALUE})", re.I | re.DOTALL), rf"\1{HIDDEN}"),
    # Name: value, to the end of the line.
    (re.compile(rf"({_NAME}\s{{0,3}}(?::|%(?:25)?3A)\s{{0,3}})[^\r\n]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # Schemes, wherever they stand.
    (re.compile(r"\b(bearer|basic)\s{1,3}[^\s\"',;]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(aws4-hmac-sha256)\b[^\r\n\"']+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # Tokens by their looks: JWT, Fernet.
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?|\bgAAAA[\w-]{20,}=*"), HIDDEN),
    # User and password in a URL.
    (re.compile(r"//(?:[^/\s\"']{1,512}|[^/\s\"'@]{0,128}:[^\s\"'@]{1,512})@"), f"//{HIDDEN}@"),
)


def redact(text: str) -> str:
    """The text with every value hidden that looks like a secret's."""
    # A short word without any separator (an id, a number) is the common case, and none of the shapes.
    if len(text) <= _SHORT and text.isalnum():
        return text
    lower = text.lower()
    for clue in _CLUES:
        if clue in lower:
            break
    else:
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, so that its whole value is hidden."""
    return _SECRET_NAME.search(name) is not None
