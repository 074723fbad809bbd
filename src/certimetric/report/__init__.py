"""From the document of an audit to what people read: one HTML page, a notebook's summary, a table, JUnit XML, SARIF.

Everything here is a pure function of the document: the same document gives the same bytes, and a page can be rendered
again from the saved JSON alone. Each kind of audit has a folder with its view, in the list ``views.VIEWS``.
"""

from certimetric.report.junit import junit_xml
from certimetric.report.sarif import sarif_json
from certimetric.report.views import render_audit, render_audit_fragment, summary_table

__all__ = ["junit_xml", "render_audit", "render_audit_fragment", "sarif_json", "summary_table"]
