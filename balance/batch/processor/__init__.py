"""From many requests to few executions and back: merge, split, run, fan the answers out."""

from balance.batch.processor.batch import Batch, Limits, Member, Outcome
from balance.batch.processor.batch_processor import BatchProcessor
from balance.batch.processor.batch_splitter import BatchSplitter
from balance.batch.processor.content_key import content_key
from balance.batch.processor.request_merger import RequestMerger

__all__ = [
    "Batch",
    "BatchProcessor",
    "BatchSplitter",
    "Limits",
    "Member",
    "Outcome",
    "RequestMerger",
    "content_key",
]
