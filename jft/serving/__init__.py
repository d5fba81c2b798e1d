"""`jft serve`: a model answers over HTTP. Requests are strangers': their size, time and number are bounded.

On the ASGI server uvicorn and the toolkit Starlette, of the extra `serve`; only `app` and `server` import them.
"""
