"""Continuation tokens: one spelling, for one listing."""

import string

import pytest

from prism.continuation import Continuations
from prism.errors import ErrorCode, PrismError

TOKENS = Continuations(b"k" * 32)
SCOPE = ("list", "things", "a/")


@pytest.mark.parametrize("key", ["a/", "a/1", "a/12", "\u00fc", ""])
def test_a_token_opens_as_it_was_given_and_in_no_other_spelling(key: str) -> None:
    token = TOKENS.seal(SCOPE, (key,))
    assert TOKENS.open(SCOPE, token) == (key,)
    others = {token[:-1] + last for last in string.ascii_letters + string.digits + "-_"} - {token}
    for other in (*others, token + "=", token + "==", token + "\n", " " + token, token[:-1], token + "A", ""):
        with pytest.raises(PrismError) as caught:
            TOKENS.open(SCOPE, other)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
