# Run by nginx/start: turns each line that nginx writes to stderr into a log line, as JSON or for people.
#
# A line can contain raw bytes of a client, so only printable ASCII is kept. After the client's address comes the request
# with its query, so the rest of the line is dropped, but for the upstream. nginx's form of a line:
#   2026/11/24 11:32:01 [error] 7#7: *5 MESSAGE, client: 192.0.2.7, server: NAME, request: "GET /?q HTTP/1.1",
#   upstream: "http://10.0.0.2:8001/?q", host: "NAME", referrer: "…"
# Variables: format, "json" or another; started, the time for lines without one, which nginx only writes at its start.

BEGIN {
    levels["debug"] = "DEBUG"
    levels["info"] = levels["notice"] = "INFO"
    levels["warn"] = "WARNING"
    levels["error"] = "ERROR"
    levels["crit"] = levels["alert"] = levels["emerg"] = "CRITICAL"
}

{
    time = started
    level = "ERROR"
    client = upstream = ""
    message = $0
    if (message ~ /^[0-9]+\/[0-9]+\/[0-9]+ [0-9:]+ \[[a-z]+\] [0-9]+#[0-9]+: /) {
        time = $1 " " $2
        level = levels[substr($3, 2, length($3) - 2)]
        sub(/^[^]]*\] [0-9#]+: (\*[0-9]+ )?/, "", message)
    } else if (message ~ /^nginx: \[[a-z]+\] /) {
        level = levels[substr($2, 2, length($2) - 2)]
        sub(/^nginx: \[[a-z]+\] /, "", message)
    } else if (message ~ /^nginx\/render: warning: /) {
        level = "WARNING"
    }
    if (start = index(message, ", client: ")) {
        rest = substr(message, start + 10)
        message = substr(message, 1, start - 1)
        if (match(rest, /^[0-9A-Fa-f.:]+/)) client = substr(rest, 1, RLENGTH)
        # A client can put a second one into its request: then neither is logged.
        if (message ~ /upstream/ && gsub(/, upstream: "http:\/\/[A-Za-z0-9._:-]+\//, "&", rest) == 1) {
            match(rest, /, upstream: "http:\/\/[^\/]*/)
            upstream = substr(rest, RSTART + 20, RLENGTH - 20)
        }
    }
    start = index(message, ", request: \"")
    if (start) message = substr(message, 1, start - 1)
    message = substr(message, 1, 1000)
    gsub(/[^ -~]/, "?", message)
    if (format == "json") {
        gsub(/\\/, "&&", message)
        gsub(/"/, "\\\"", message)
        gsub(/\//, "-", time)
        sub(/ /, "T", time)
        line = "{\"time\":\"" time "+00:00\",\"logger\":\"nginx\",\"level\":\"" level "\",\"message\":\"" message "\""
        if (client) line = line ",\"client\":\"" client "\""
        if (upstream) line = line ",\"upstream\":\"" upstream "\""
        line = line "}"
    } else {
        line = time " nginx " level " " message
        if (client) line = line " client " client
        if (upstream) line = line " upstream " upstream
    }
    # "print" of mawk writes the line break separately, and another process could write in between.
    printf "%s", line "\n"
    fflush()
}
