"""A valid request for every method of the API, and the scope that a key needs for it."""

from typing import Any

from leadline.dialects.xai.protos import (
    METHODS,
    batch,
    chat,
    deferred,
    embed,
    files,
    message_class,
    models,
    sample,
    tokenize,
)
from leadline.dialects.xai.server import HANDLERS

NOBODY = "01a21215-e4a7-7b11-b415-5f93b6190a05"
AUTH = "/xai_api.Auth/get_api_key_info"
# Where nothing of the sort is, with a service that is here and one that is not.
UNKNOWN = (
    "/xai_api.Chat/GetEverything",
    "/xai_api.Management/ListKeys",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/xai_api.Chat/",
    "/xai_api.chat/GetCompletion",
    "//xai_api.Chat/GetCompletion",
    "/",
    "/größe/x",
)
_SCOPES = {
    "xai_api.Chat": "chat",
    "xai_api.Models": "models",
    "xai_api.Tokenize": "tokenize",
    "xai_api.Embedder": "embed",
    "xai_api.Sample": "sample",
    "xai_api.BatchMgmt": "batch",
    "xai_api.Files": "files",
}
SCOPES = tuple(_SCOPES.values())


def scope_of(path: str) -> str | None:
    """None where any key will do, or there is nothing to open."""
    return _SCOPES.get(path[1:].partition("/")[0]) if path in HANDLERS else None


def said(text: str = "hi") -> Any:
    return chat.Message(role=chat.ROLE_USER, content=[chat.Content(text=text)])


def ask(model: str = "echo", **more: Any) -> Any:
    return chat.GetCompletionsRequest(**{"model": model, "messages": [said()], "max_tokens": 9} | more)


def _embed(model: str) -> Any:
    return embed.EmbedRequest(model=model, input=[embed.EmbedInput(string="hi")])


def questions(model: str = "echo", embedding_model: str = "embed") -> dict[str, list[Any]]:
    """What is sent to each method, by its path: one message, or several to those that take a stream."""
    asked = ask(model)
    known = {
        "Chat/GetCompletion": asked,
        "Chat/GetCompletionChunk": asked,
        "Chat/StartDeferredCompletion": asked,
        "Chat/GetDeferredCompletion": deferred.GetDeferredRequest(request_id=NOBODY),
        "Chat/GetStoredCompletion": chat.GetStoredCompletionRequest(response_id=NOBODY),
        "Chat/DeleteStoredCompletion": chat.DeleteStoredCompletionRequest(response_id=NOBODY),
        "Chat/CompactContext": chat.CompactContextRequest(model=model, input=[said()]),
        "Models/GetLanguageModel": models.GetModelRequest(name=model),
        "Models/GetEmbeddingModel": models.GetModelRequest(name=embedding_model),
        "Models/GetImageGenerationModel": models.GetModelRequest(name=model),
        "Tokenize/TokenizeText": tokenize.TokenizeTextRequest(model=model, text="hi"),
        "Embedder/Embed": _embed(embedding_model),
        "Sample/SampleText": sample.SampleTextRequest(model=model, prompt=["hi"], max_tokens=9),
        "Sample/SampleTextStreaming": sample.SampleTextRequest(model=model, prompt=["hi"], max_tokens=9),
        "BatchMgmt/CreateBatch": batch.CreateBatchRequest(name="all of them"),
        "BatchMgmt/AddBatchRequests": batch.AddBatchRequestsRequest(
            batch_id=NOBODY, batch_requests=[batch.BatchRequest(batch_request_id="1", completion_request=asked)]
        ),
        "Files/RetrieveFile": files.RetrieveFileRequest(file_id=NOBODY),
    }
    found = {path: [message_class(method.input_type)()] for path, method in METHODS.items()}
    found |= {f"/xai_api.{name}": [message] for name, message in known.items()}
    found["/xai_api.Files/UploadFile"] = [
        files.UploadFileChunk(init=files.UploadFileInit(name="notes.txt")),
        files.UploadFileChunk(data=b"hello"),
    ]
    return found
