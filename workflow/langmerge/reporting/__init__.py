"""The report: from finished results to tables, figures, findings, one HTML page and one PDF."""
