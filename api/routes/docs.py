"""The contract for machines and for people: /openapi.json, and Swagger UI from the files of a wheel, without a network.

In production neither is there unless `MLOPS_DOCS=true`.
"""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from api.dependencies import StateDep
from api.openapi import TITLE
from api.problems import ProblemError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; the contract itself is <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """"use strict";
SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
"""
STATIC = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript", "favicon.png": "image/png"}
A_DAY = {"Cache-Control": "public, max-age=86400"}

router = APIRouter()


def static_folder() -> Path:
    """Where the wheel keeps Swagger UI."""
    return Path(str(files("fastapi_offline"))) / "static"


@router.get("/openapi.json")
async def read_document(state: StateDep) -> Response:
    """The contract of the served version."""
    content = await run_in_threadpool(state.documents.content, state.slot.current)
    return Response(content, media_type="application/json", headers={"Cache-Control": "no-cache"})


@router.get("/docs")
async def read_page() -> Response:
    return Response(PAGE, media_type="text/html", headers={"Content-Security-Policy": POLICY})


@router.get("/docs/{name}")
async def read_file(name: str) -> Response:
    if name == "start.js":
        return Response(START, media_type="text/javascript", headers=A_DAY)
    if name not in STATIC:
        raise ProblemError(404, "There is no such file.")
    return FileResponse(static_folder() / name, media_type=STATIC[name], headers=A_DAY)
