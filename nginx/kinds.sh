# Sourced by nginx/render: the kinds of settings, as functions. Each exports the variable NAME, with its default if it is
# unset or empty, and ends render with status 2 if its value is wrong.

get() {  # NAME DEFAULT
    eval "value=\${$1:-\$2}; export $1=\"\$value\""
}

matches() {  # ERE: the whole value, also if it has line breaks
    value=$value ere=$1 awk 'BEGIN { exit ENVIRON["value"] !~ ENVIRON["ere"] }'
}

integer() {  # NAME DEFAULT MIN MAX
    get "$1" "$2"
    kind="a whole number from $3 to $4"
    matches '^[0-9]+$' || fail "$1=$value must be $kind" 2
    value=$(echo "$value" | sed 's/^0*\(.\)/\1/')  # a leading zero would make it octal
    [ ${#value} -le 15 ] && [ "$value" -ge "$3" ] && [ "$value" -le "$4" ] || fail "$1=$value must be $kind" 2
    eval "$1=\$value"
}

number() {  # NAME DEFAULT
    get "$1" "$2"
    matches '^[0-9]+(\.[0-9]+)?$' || fail "$1=$value must be a number" 2
}

text() {  # NAME DEFAULT ERE
    get "$1" "$2"
    matches "$3" || fail "$1=$value must be text that matches $3" 2
}

prefixes() {  # NAME DEFAULT: of paths, separated by spaces
    get "$1" "$2"
    # nginx resolves . and .. before it compares a path; below /-/ are slowpool's own paths.
    matches '^((/[A-Za-z0-9._~+,:@=!*-]+)+/?( +(/[A-Za-z0-9._~+,:@=!*-]+)+/?)*)?$' &&
        ! matches '/\.\.?(/| |$)' && ! matches '(^| )/-(/| |$)' &&
        [ -z "$(echo "$value" | tr ' ' '\n' | sed '/^$/d' | sort | uniq -d)" ] ||
        fail "$1=$value must be prefixes of paths, such as /slow /reports, each once and none below /-/" 2
}

choice() {  # NAME DEFAULT CHOICE...
    name=$1
    get "$1" "$2"
    shift 2
    for one; do
        [ "$value" != "$one" ] || return 0
    done
    fail "$name=$value must be one of: $*" 2
}

file() {  # NAME DEFAULT: the path is made absolute
    get "$1" "$2"
    case $value in
        '') return 0 ;;
        *[\"\$\;{}\\]* | *[[:space:]]*) fail "$1=$value must be a path without spaces, quotes, \$, ;, {, } and \\" 2 ;;
        /*) ;;
        *) value=$PWD/$value ;;
    esac
    [ -f "$value" ] || fail "$1=$value must be a file that exists" 2
    [ -r "$value" ] || fail "$1=$value must be readable by uid $(id -u); change its owner or mode" 2
    eval "$1=\$value"
}

# A browser and nginx must read the password alike: no control character, of which C2 80 to C2 9F are two bytes.
password() {  # NAME: the setting of its file
    eval "value=\$$1"
    [ -n "$value" ] || return 0
    awk '/:/ || $0 == "" { bad = 1 } END { exit bad || NR != 1 }' "$value" &&
        [ -z "$(tr -d '\n\040-\176\200-\377' < "$value" | od -An)" ] &&
        ! grep -q "$(printf '\302[\200-\237]')" "$value" &&
        iconv -f UTF-8 -t UTF-8 "$value" > /dev/null 2>&1 ||
        fail "$1=$value must hold one line of printable UTF-8 without a colon" 2
}
