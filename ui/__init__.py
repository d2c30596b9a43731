"""The page. Whatever of it is imported first, Gradio's own start is made shorter before Gradio is."""

from engine.imports import AROUND, ASLEEP, uncollected
from ui.gradio_start import without_stubs

AROUND["gradio"] = uncollected
AROUND["gradio.component_meta"] = without_stubs
ASLEEP["pandas"] = {}  # for tables of Gradio's, which this page has none of
