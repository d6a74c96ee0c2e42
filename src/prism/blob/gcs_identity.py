"""Who Prism is to Google: one source of credentials for a namespace's requests and for its signatures.

Three kinds: a service account's key from the settings, the cloud's default chain (looked for when it is first needed),
and nobody, for an emulator. Tokens are renewed before they expire, by one caller at a time. Everything here blocks and
is called in threads. What Google's library says of a failure stays here: it may hold a token or a URL.
"""

import json
import threading
import urllib.parse
from collections.abc import Callable
from typing import Any, Protocol

from ..config import GCSStore
from ..errors import ErrorCode, PrismError

__all__ = ["GOOGLE", "Anonymous", "Identity", "Known", "identity_of"]

GOOGLE = "https://storage.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_CHAIN_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
"""The chain's credentials may have to ask for signatures, too, which the narrow scope does not cover."""


class Identity(Protocol):
    """Who asks and who signs."""

    can_sign: bool

    def authorization(self) -> dict[str, str]:
        """The headers that say who asks. STORE_DOWN when there are no credentials at the moment."""
        ...

    def email(self) -> str:
        """Who signs. STORE_DOWN when the credentials belong to nobody who can."""
        ...

    def sign(self, message: bytes) -> bytes:
        """RSA with SHA-256 over `message`, as `email` does it."""
        ...


class Anonymous:
    """Nobody: requests carry no credentials, and nothing can be signed."""

    can_sign = False

    def authorization(self) -> dict[str, str]:
        """No header."""
        return {}

    def email(self) -> str:
        """Nobody signs."""
        raise _no_signer()

    def sign(self, message: bytes) -> bytes:
        """Likewise."""
        raise _no_signer()


class Known:
    """Google's own credentials. `load` finds them once, `request` is how the library asks for tokens and signatures."""

    can_sign = True

    def __init__(self, load: Callable[[], Any], request: Any) -> None:
        self._load = load
        self._request = request
        self._found: Any = None
        self._lock = threading.Lock()

    def authorization(self) -> dict[str, str]:
        """A token that is good for some minutes more."""
        return {"Authorization": f"Bearer {_asked(self._token)}"}

    def email(self) -> str:
        """The service account's, from the key or, by the chain, from the machine."""
        return str(_asked(self._signing)[0])

    def sign(self, message: bytes) -> bytes:
        """By the private key where there is one, else by a request to the IAM service."""
        return bytes(_asked(lambda: self._signing()[1](message)))

    def _token(self) -> Any:
        found = self._credentials()
        if not found.valid:
            with self._lock:
                if not found.valid:
                    found.refresh(self._request)
        return found.token

    def _credentials(self) -> Any:
        with self._lock:
            if self._found is None:
                self._found = self._load()
            return self._found

    def _signing(self) -> tuple[str, Callable[[bytes], bytes]]:
        from google.auth import iam
        from google.auth.credentials import Signing

        found = self._credentials()
        if isinstance(found, Signing):
            return found.signer_email, found.sign_bytes
        if getattr(found, "service_account_email", None) == "default":
            self._token()  # a machine learns its account's name with its first token
        email = getattr(found, "service_account_email", None)
        if not email:
            raise _no_signer()
        signer: Any = iam.Signer
        return email, signer(self._request, found, email).sign


def identity_of(store: GCSStore) -> Identity:
    """Who asks for this bucket. INVALID_ARGUMENT for a key that is none."""
    if store.credentials is not None:
        found = _service_account(store.credentials.reveal(), store.bucket)
        return Known(lambda: found, _request(store))
    host = urllib.parse.urlsplit(store.endpoint or GOOGLE).hostname or ""
    if host == "googleapis.com" or host.endswith(".googleapis.com"):
        return Known(_default_chain, _request(store))
    return Anonymous()


def _service_account(key: str, bucket: str) -> Any:
    """Its tokens come from Google's token service: the store takes none that the key signs for a scope by itself."""
    from google.oauth2 import service_account

    made: Any = service_account.Credentials
    try:
        found = made.from_service_account_info(json.loads(key), scopes=_SCOPES)
    except (ValueError, TypeError, AttributeError):
        found = None
    if found is None:
        what = "allowed: the JSON of a service account's key, with client_email and private_key"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"bucket {bucket!r}: credentials are no key; {what}")
    return found


def _default_chain() -> Any:
    import google.auth

    found, _ = google.auth.default(scopes=_CHAIN_SCOPES)
    return found


def _request(store: GCSStore) -> Any:
    """How tokens are asked for: not of the store, so its private authorities do not count here."""
    import urllib3
    from google.auth.transport.urllib3 import Request

    request: Any = Request
    return request(urllib3.PoolManager(retries=False, timeout=store.request_seconds))


def _asked(call: Callable[[], Any]) -> Any:
    from google.auth.exceptions import GoogleAuthError

    try:
        return call()
    except GoogleAuthError as error:
        cause = type(error).__name__
    what = "the cloud gives Prism no credentials at the moment"
    raise PrismError(ErrorCode.STORE_DOWN, what, context={"cause": cause})


def _no_signer() -> PrismError:
    what = "these credentials cannot sign URLs: a service account can, or a machine or pod that runs as one"
    return PrismError(ErrorCode.STORE_DOWN, what, retryable=False)
