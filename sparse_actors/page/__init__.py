"""The live page: a run in the browser while it goes on; see docs/page.md."""
