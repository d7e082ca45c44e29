"""How a model is asked, how a request is made ready for it, and how its answers are told."""

from __future__ import annotations

from balance.interfaces.model.model_interface import ModelInterface
from balance.interfaces.model.request_handler import RequestHandler
from balance.interfaces.model.response_handler import ResponseHandler

__all__ = ["ModelInterface", "RequestHandler", "ResponseHandler"]
