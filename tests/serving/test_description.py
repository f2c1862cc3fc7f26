"""Requests that are made of the interface's own description: no server error, and answers as described."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.serving.app import create_app
from recbole_llm_interest.serving.options import ServeOptions
from recbole_llm_interest.serving.service import Service
from recbole_llm_interest.serving.stores import open_store

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.slow
def test_generated_requests_are_answered_as_described(shop):
    checkpoint, places = shop()
    service = Service(Recommender.load(checkpoint, **places), open_store("memory"))
    options = ServeOptions(str(checkpoint), host="testserver")  # the name by which the requests are sent
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(service, options))
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 15
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        def answered(case):
            case.call_and_validate(checks=CHECKS)

        answered()
