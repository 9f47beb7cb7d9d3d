"""One page each: `render(app, source)` adds the callbacks and returns what draws the page."""
