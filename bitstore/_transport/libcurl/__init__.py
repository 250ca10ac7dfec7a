"""The transport that carries everything: libcurl, by way of pycurl. Nothing else imports pycurl's options."""
