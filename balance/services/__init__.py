"""The services that clients and models talk to, and one ready instance of each.

The instances share one connection.  Importing them opens nothing: the first call that needs the broker connects.

Examples
--------
>>> from balance.services import data_service, messaging_service
>>> messaging_service.data_service is data_service, data_service._is_initialized
(True, False)
"""

from __future__ import annotations

from balance.services._data_service import DataService
from balance.services._messaging_service import MessagingService
from balance.services._model_service import ModelService

__all__ = ["DataService", "MessagingService", "ModelService", "data_service", "messaging_service", "model_service"]

data_service = DataService()
model_service = ModelService(data_service=data_service)
messaging_service = MessagingService(data_service=data_service, model_service=model_service)
