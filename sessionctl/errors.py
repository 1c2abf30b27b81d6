"""The error tree: everything sessionctl raises on purpose.

    SessionctlError                 internal
    ├─ InvalidRequestError          invalid_request
    │  ├─ ConfigurationError        invalid_configuration
    │  ├─ TooLargeError             too_large
    │  └─ KeyReusedError            idempotency_key_reused
    ├─ NotFoundError                not_found
    ├─ ConflictError                conflict
    │  ├─ DemandGateClosedError     demand_gate_closed
    │  ├─ InProgressError           in_progress
    │  └─ FenceLostError            fence_lost
    │     └─ MessageEndedError      message_ended
    ├─ ForbiddenError               forbidden
    │  ├─ UnauthenticatedError      unauthenticated
    │  ├─ InsufficientScopeError    insufficient_scope
    │  └─ QuotaExceededError        quota_exceeded
    ├─ RateLimitedError             rate_limited
    │  └─ QueueFullError            queue_full
    ├─ DependencyError              dependency_failed
    │  ├─ HelmError                 helm_failed
    │  ├─ ClusterError              cluster_failed
    │  ├─ StoreError                store_failed
    │  │  └─ OutcomeUnknownError    outcome_unknown
    │  ├─ ApiError                  api_failed
    │  ├─ AgentError                agent_failed
    │  └─ UnavailableError          unavailable
    └─ DeadlineExceededError        deadline_exceeded

The edges translate ``code`` to HTTP statuses and exit codes, each in one table. A subclass exists
only where a caller branches on it. ``hint`` is the next step, one sentence.
"""

from __future__ import annotations

from typing import ClassVar


class SessionctlError(Exception):
    """Base of the tree: ``message`` names the cause, ``hint`` the next step."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidRequestError(SessionctlError):
    """The caller's input cannot be accepted; nothing was changed. ``field`` is the one that is wrong, if it is one."""

    code: ClassVar[str] = "invalid_request"

    def __init__(self, message: str, *, hint: str | None = None, field: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class ConfigurationError(InvalidRequestError):
    """The platform's configuration or a profile is wrong; an operator has to mend it."""

    code: ClassVar[str] = "invalid_configuration"


class TooLargeError(InvalidRequestError):
    """The request is larger than anybody may send."""

    code: ClassVar[str] = "too_large"


class KeyReusedError(InvalidRequestError):
    """An idempotency key came again with another request."""

    code: ClassVar[str] = "idempotency_key_reused"


class NotFoundError(SessionctlError):
    """The named thing does not exist."""

    code: ClassVar[str] = "not_found"


class ConflictError(SessionctlError):
    """The request contradicts the present state, or somebody else changed it first."""

    code: ClassVar[str] = "conflict"


class DemandGateClosedError(ConflictError):
    """Redis restarted and its demand has not been restored yet, so nothing may be put to sleep (DESIGN 5)."""

    code: ClassVar[str] = "demand_gate_closed"


class InProgressError(ConflictError):
    """Somebody is at it already; the same request a moment later finds it done."""

    code: ClassVar[str] = "in_progress"


class FenceLostError(ConflictError):
    """Somebody else delivers the session's chats by now, or its record was lost: nothing was written."""

    code: ClassVar[str] = "fence_lost"


class MessageEndedError(FenceLostError):
    """The message has its outcome: somebody has ended it. The fence still holds; the next message may go on."""

    code: ClassVar[str] = "message_ended"


class ForbiddenError(SessionctlError):
    """The caller may not do this."""

    code: ClassVar[str] = "forbidden"


class UnauthenticatedError(ForbiddenError):
    """The caller did not show the right credential."""

    code: ClassVar[str] = "unauthenticated"


class InsufficientScopeError(ForbiddenError):
    """The credential is good, but not for this."""

    code: ClassVar[str] = "insufficient_scope"


class QuotaExceededError(ForbiddenError):
    """The user or tenant has as much as it may have."""

    code: ClassVar[str] = "quota_exceeded"


class RateLimitedError(SessionctlError):
    """The caller asks too often; ``retry_after`` is in seconds."""

    code: ClassVar[str] = "rate_limited"

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class QueueFullError(RateLimitedError):
    """As many messages wait for the session as may wait, or as many bytes."""

    code: ClassVar[str] = "queue_full"


class DependencyError(SessionctlError):
    """Something sessionctl needs does not answer or answers wrongly."""

    code: ClassVar[str] = "dependency_failed"


class HelmError(DependencyError):
    """Helm is missing, too old, or refused; ``stderr`` is already truncated and carries no values."""

    code: ClassVar[str] = "helm_failed"

    def __init__(self, message: str, *, stderr: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.stderr = stderr


class ClusterError(DependencyError):
    """The Kubernetes API is unreachable or refused; ``status`` is its HTTP status, 0 when there was no answer."""

    code: ClassVar[str] = "cluster_failed"

    def __init__(self, message: str, *, status: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class StoreError(DependencyError):
    """Redis is unreachable or refused."""

    code: ClassVar[str] = "store_failed"


class OutcomeUnknownError(StoreError):
    """Redis was lost while it was asked to write: it may have, or not. The same request may be repeated."""

    code: ClassVar[str] = "outcome_unknown"


class ApiError(DependencyError):
    """The Session API is unreachable, or what answers is not the Session API; raised by its clients."""

    code: ClassVar[str] = "api_failed"


class AgentError(DependencyError):
    """A session's agent will not take the message, or answers what is no answer; the same again would not help.

    One that cannot be reached, or is cut off, is an UnavailableError.
    """

    code: ClassVar[str] = "agent_failed"


class UnavailableError(DependencyError):
    """It cannot be done at this moment; the same request may be sent again as it is."""

    code: ClassVar[str] = "unavailable"


class DeadlineExceededError(SessionctlError):
    """The operation did not finish in the time given; what was asked for may still happen."""

    code: ClassVar[str] = "deadline_exceeded"
