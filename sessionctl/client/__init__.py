"""The Python SDK of the Session API: ``SessionClient``, typed and asynchronous.

Answers are the models of ``sessionctl.wire``, errors those of ``sessionctl.errors``. A program that is not
asynchronous calls ``asyncio.run``.
"""

from __future__ import annotations

from sessionctl.client.replies import ReplyPiece, ReplyStream
from sessionctl.client.retries import Patience
from sessionctl.client.sessions import SessionClient

__all__ = ["Patience", "ReplyPiece", "ReplyStream", "SessionClient"]
