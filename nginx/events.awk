# Run by nginx/start: counts the lines of the log of events (templates/events.conf) and writes /status/edge, in Prometheus'
# text format.
#
# A line is "PORT|STATUS|ANSWERED_BY|POOL|ASKED|ASK_TRIES|FAST_TRIES|TRIES". PORT is empty where nginx has asked itself
# (templates/counted.conf). TRIES are the statuses of all tries, such as "502, 200 : 200"; FAST_TRIES are those before a
# hand over, ASK_TRIES, each after a slash, those until an ask had ended.
# A line "write" is the clock: when a line comes, it is asked for, and comes a second later through the same pipe. One that
# is late is asked for again. So nothing runs while there are no events.
# Environment: EVENTS, the pipe; COUNTS, the file to write; NGINX_PID, the process of nginx.

BEGIN {
    all = split("400 404 405 408 411 413 414 421 429 431 499 501 502 503 504 505", statuses, " ")
    split("fast slow", pools, " ")
    head("nginx_errors_total", "Errors that nginx has answered itself; 499: the client had gone.")
    for (i = 1; i <= all; i++) {
        add(errors("", statuses[i]))
        for (j = 1; j <= 2; j++) add(errors(pools[j], statuses[i]))
    }
    head("nginx_second_tries_total", "Requests for which nginx tried another instance, since one did not answer.")
    for (j = 1; j <= 2; j++) add(tries(pools[j]))
    head("nginx_hand_overs_total", "Requests that a fast instance has handed over to the slow pool.")
    add("nginx_hand_overs_total")
    head("nginx_asks_total", "Requests for which nginx asked the slow instances for an idle worker or a place.")
    add(asks("idle"))
    add(asks("place"))

    # This program was killed, and has been started again.
    while ((getline line < ENVIRON["COUNTS"]) > 0)
        if (split(line, part, " ") == 2 && part[1] in counts) counts[part[1]] = part[2]
    close(ENVIRON["COUNTS"])
    write()
    clock = "{ sleep 1; ! kill -0 \"$NGINX_PID\" || echo write 1<> \"$EVENTS\"; } < /dev/null > /dev/null 2>&1 &"
}

$0 == "write" {
    for (line in lines) count(line, lines[line])
    split("", lines)
    write()
    asked_at = 0
    next
}

# A flood has few different lines, which are looked at once a second.
{
    lines[$0]++
    if (asked_at && ++passed % 100) next  # the time costs more than a line
    now = seconds()
    if (now - asked_at > 3 && system(clock) == 0) asked_at = now
}

# The seed is the time: in seconds, or, as in newer mawks, in nanoseconds.
function seconds(    now) {
    srand()
    now = srand()
    while (now > 1e11) now /= 1000
    return now
}

function errors(pool, status) {
    return "nginx_errors_total{" (pool ? "pool=\"" pool "\"," : "") "status=\"" status "\"}"
}
function tries(pool) { return "nginx_second_tries_total{pool=\"" pool "\"}" }
function asks(ask) { return "nginx_asks_total{ask=\"" ask "\"}" }

function head(name, help) { heads = "# HELP " name " " help "\n# TYPE " name " counter\n" }
function add(series) {
    order[++size] = series
    before[size] = heads
    counts[series] = 0
    heads = ""
}

function count(line, times,    part, status, pool, fast, slow) {
    if (split(line, part, "|") != 8) return
    status = part[2]
    fast = part[7]
    slow = part[8]
    pool = part[4] == "asked" || fast ? "slow" : part[4]
    # These have no answer, so an instance's own is told by the last try. Where nginx has asked itself, it has gone too.
    if (part[3] || part[1] && (status == 408 || status == 499) && slow !~ (status "$"))
        if (errors(pool, status) in counts) counts[errors(pool, status)] += times
    if (part[5] ~ / idle/) counts[asks("idle")] += times
    if (part[5] ~ / place/) counts[asks("place")] += times
    if (fast) counts["nginx_hand_overs_total"] += times

    if (part[6]) slow = without_asks(slow, part[6])
    if (fast) slow = substr(slow, length(fast) + 4)
    else if (pool == "fast") {
        fast = slow
        slow = ""
    }
    if (is_second(fast)) counts[tries("fast")] += times
    if (is_second(slow)) counts[tries("slow")] += times
}
# An ask is the last of the tries until it had ended.
function without_asks(statuses, asked,    group, groups, until, n, i, rest) {
    groups = split(statuses, group, / : /)
    n = split(substr(asked, 2), until, "/")
    for (i = 1; i <= n; i++) group[split(until[i], rest, / : /)] = ""
    statuses = ""
    for (i = 1; i <= groups; i++)
        if (group[i]) statuses = statuses (statuses ? " : " : "") group[i]
    return statuses
}
function is_second(statuses) { return statuses ~ /50[24](,| :) / }

# Where a file cannot be written, as on a full disk, the last one stays; awk itself would end.
function write(    text, i) {
    for (i = 1; i <= size; i++) text = text sprintf("%s%s %.0f\n", before[i], order[i], counts[order[i]])
    system("{ printf %s '" text "' > \"$COUNTS.new\" && mv -f \"$COUNTS.new\" \"$COUNTS\"; } 2> /dev/null")
}
