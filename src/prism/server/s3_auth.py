"""Who calls the S3 API: the key pair that a request's signature names, verified, and a record of what does not hold.

A header signature makes the caller its key's owner; a signed URL makes him what the URL says and nothing else. Nobody
is let in without one. Keys belong to one namespace each, and other namespaces' buckets look absent to them.
"""

import msgspec

from ..access import Access, AccessKey
from ..blob.sigv4 import Claim, Credential, Signable, claim_of, verify
from ..errors import ErrorCode, PrismError
from ..model import Action, Caller, Principal
from .s3_exchange import S3Request

__all__ = ["authenticate"]


def authenticate(request: S3Request, request_id: str, action: Action | None) -> None:
    """Let the request in under its principal. A refusal is audited as a try at `action` and raises UNAUTHENTICATED,
    UNKNOWN_ACCESS_KEY, SIGNATURE_MISMATCH, PERMISSION_DENIED or INVALID_ARGUMENT."""
    signed = Signable(request.method, request.path, request.pairs, request.headers)
    access = request.services.access
    claim, pair = None, None
    try:
        claim = claim_of(signed)
        if claim is None:
            raise PrismError(ErrorCode.UNAUTHENTICATED, "requests without a signature are not served here")
        pair = access.access_key(claim.access_key)
        if pair is None:
            raise PrismError(ErrorCode.UNKNOWN_ACCESS_KEY, "there is no such access key")
        credential = Credential(pair.access_key, pair.secret.reveal(), pair.region)
        chain = verify(claim, credential, signed, request.services.now())
    except PrismError as error:
        _record(access, request, request_id, action, claim, pair, error)
        raise
    principal = pair.principal
    if claim.expires_seconds is not None:
        principal = msgspec.structs.replace(principal, kind="presigned")
    request.admit(Caller(principal=principal, request_id=request_id, api="s3"), pair.namespace, claim, chain)


def _record(
    access: Access,
    request: S3Request,
    request_id: str,
    action: Action | None,
    claim: Claim | None,
    pair: AccessKey | None,
    error: PrismError,
) -> None:
    name = "anonymous" if claim is None else claim.access_key[:128]
    caller = Caller(principal=Principal(name=name, kind="unverified"), request_id=request_id, api="s3")
    if action is not None:
        access.refused(caller, action, error, "" if pair is None else pair.namespace, request.bucket, request.key)
