"""The example application: a package as a user's own would be, named by ``ROUTES=demo.routes``."""
