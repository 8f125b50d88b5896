"""Panel with a field and a clock that the app moves."""
from datetime import datetime

import panel as pn

# Off by default: then nothing tells the person that the connection is gone.
pn.extension(notifications=True, disconnect_notification="Connection lost, load the page again")

text = pn.widgets.TextInput(name="Text")
result = pn.pane.Str("nothing yet")
clock = pn.pane.Str("")

text.param.watch(lambda event: setattr(result, "object", f"computed {event.new}"), "value")
pn.state.add_periodic_callback(lambda: setattr(clock, "object", f"{datetime.now():%H:%M:%S}"), 1000)

pn.Column("# Measurements", clock, text, result).servable()
