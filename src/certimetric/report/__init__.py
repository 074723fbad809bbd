"""From an audit document to what people read: one HTML page, a notebook's summary, a table, JUnit XML.

Everything here is a pure function of the document (schema ``certimetric.audit/1``): the same document gives the
same bytes, and a page can be rendered again from the saved JSON alone.
"""

from certimetric.report.formatting import summary_table
from certimetric.report.junit import junit_xml
from certimetric.report.tables.page import render_audit, render_audit_fragment

__all__ = ["junit_xml", "render_audit", "render_audit_fragment", "summary_table"]
