"""The log in other people's formats: JSON lines, FHIR AuditEvent, RFC 5424 syslog, CEF. `write.py` writes files."""
