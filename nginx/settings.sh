# Generated from app/slowpool/config.py by `make generate`: the settings that nginx/render reads, their defaults and what they may be.
integer HTTP_PORT 8080 1 65535
integer ADMIN_PORT 8081 1 65535
integer HTTPS_PORT 8443 1 65535
file TLS_CERTIFICATE ''
file TLS_KEY ''
text SERVER_NAMES '' '^[A-Za-z0-9.*_-]*([ ,]+[A-Za-z0-9.*_-]+)*$'
text TRUSTED_PROXIES '' '^[0-9A-Fa-f.:/ ,]*$'
integer SLOW_PER_CLIENT 4 0 65535
integer CLIENT_RATE 0 0 65535
integer CLIENT_CONNECTIONS 0 0 65535
integer CLIENT_UPLOADS 5 0 65535
file ADMIN_PASSWORD_FILE ''
integer FAST_PROCESSES 2 1 256
integer SLOW_PROCESSES 2 1 256
integer FAST_PORT 8001 1 65535
integer SLOW_PORT 8101 1 65535
text FAST_HOST 127.0.0.1 '^[A-Za-z0-9._-]+$'
text SLOW_HOST 127.0.0.1 '^[A-Za-z0-9._-]+$'
number SLOW_TIMEOUT_SECONDS 60
prefixes SLOW_PATHS /slow
integer MAX_BODY_BYTES 20971520 1 1099511627776
integer FAST_TIMEOUT_SECONDS 60 1 86400
prefixes STREAM_PATHS ''
text AFFINITY '' '^(address|cookie:[A-Za-z0-9_.-]+)?$'
number DRAIN_TIMEOUT_SECONDS 65
choice LOG_FORMAT json json console
