"""The example application: a package like your own, served with ``ROUTES=demo.routes``."""
