"""Files behind a URL, in ranges."""

from stepson.remote.file import match_url, open_url

__all__ = ["match_url", "open_url"]
