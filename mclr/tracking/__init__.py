"""MLflow as a view of the result files: read them, publish them, look at them.

Files are the truth; nothing is decided from MLflow and no training job imports it.
"""

from mclr.tracking.publish import publish, watch
from mclr.tracking.views import how_to_look, ui_command, ui_url, what_was_published

__all__ = ["how_to_look", "publish", "ui_command", "ui_url", "watch", "what_was_published"]
