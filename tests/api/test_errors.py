from __future__ import annotations

import pytest
from werkzeug.exceptions import BadRequest, HTTPException, ServiceUnavailable

from sitpayd.actors.registry import DeviceBusyError
from sitpayd.api.errors import STATUS, ApiError, of_exception, refused
from sitpayd.errors import (
    SealError,
    SitpaydError,
    StorageBusyError,
    StorageError,
    StorageFullError,
)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ApiError("not_found", "There is nothing."), 404, "not_found"),
        (DeviceBusyError("wa_1"), 503, "device_busy"),
        (StorageFullError("full"), 503, "storage_full"),
        (StorageBusyError("busy"), 503, "overloaded"),
        (StorageError("odd"), 503, "storage_unavailable"),
        (SealError("outbox.text does not open"), 500, "internal"),
        (SitpaydError("of a kind that has no row"), 500, "internal"),
        (RuntimeError("it broke"), 500, "internal"),
        (BadRequest("the framework's words"), 400, "invalid_query"),
        (ServiceUnavailable("the framework's words"), 500, "internal"),
        (HTTPException("without a code"), 500, "internal"),
    ],
)
def test_error_has_its_answer(error: Exception, status: int, code: str) -> None:
    answer = of_exception(error)

    assert (answer.status, answer.code) == (status, code)
    if code in ("internal", "invalid_query"):
        assert str(error) not in answer.message


def test_what_may_be_tried_again_says_when() -> None:
    assert of_exception(StorageFullError("full")).headers()["retry-after"] == "10"
    assert refused("rate_limited", {}).headers()["retry-after"] == "60"
    assert "retry-after" not in refused("malformed", {}).headers()


def test_every_code_is_a_client_or_server_error() -> None:
    assert all(400 <= status < 600 for status in STATUS.values())
