"""The page of a model that does not chat: what it is, and how to ask it."""

import html
from string import Template

from aiohttp import web

from mkllm.runtime.artifact.purpose import Purpose
from mkllm.runtime.front.page import CONFINED, TYPES

KEY = ' -H "Authorization: Bearer YOUR_KEY"'
PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$name</title>
<style>body { font: 1rem/1.5 system-ui, sans-serif; max-width: 45rem; margin: 3rem auto; padding: 0 1rem }
pre { background: #8882; padding: 1rem; white-space: pre-wrap }</style>
<h1>$name</h1>
<p>This is $kind, which answers no prompts. Programs ask it at <code>$path</code>:</p>
<pre>curl $url$path -H "Content-Type: application/json"$key -d "$body"</pre>
</html>
""")


def notice(name: str, purpose: Purpose, url: str, needs_key: bool) -> web.Response:
    """The page for a model of that name; `url` is where it is asked, without a path."""
    # In double quotes, as every shell and Windows' own take it.
    key, body = KEY if needs_key else "", purpose.body.replace('"', '\\"')
    words = {"name": name, "kind": purpose.kind, "path": purpose.path, "body": body, "url": url, "key": key}
    text = PAGE.substitute({key: html.escape(word) for key, word in words.items()})
    headers = {**CONFINED, "Content-Type": TYPES["html"], "Cache-Control": "no-cache"}
    return web.Response(body=text.encode("utf-8", "replace"), headers=headers)
