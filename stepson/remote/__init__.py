"""Files behind a URL, in ranges."""

from stepson.remote.urls import match_url, open_url

__all__ = ["match_url", "open_url"]
