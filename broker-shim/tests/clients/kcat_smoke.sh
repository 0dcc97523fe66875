#!/usr/bin/env bash
# Smoke check with kcat (the librdkafka that distributions ship).
#
# Prints one line a check: `ok - what`, `not ok - what: why` or `n/a - what: why`.
# Topics come to be by auto-creation: kcat has no command for it.
set -u

address=${1:-${BOOTSTRAP:-}}
[ -n "$address" ] || { echo "usage: kcat_smoke.sh HOST:PORT (or BOOTSTRAP=HOST:PORT)" >&2; exit 2; }
command -v kcat >/dev/null || { echo "kcat is not installed" >&2; exit 2; }

run=$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
work=$(mktemp -d)
members=()
failed=0
why=""

clean_up() {
    for member in "${members[@]}"; do kill -KILL "$member" 2>/dev/null; wait "$member" 2>/dev/null; done
    rm -rf "$work"
}
trap clean_up EXIT

topic() { echo "smoke-kcat-$1-$run"; }
# Every call is bounded: kcat waits for a broker for ever otherwise.
cat_() { timeout 30 kcat -b "$address" "$@"; }

check() { # WHAT FUNCTION ARGUMENTS…
    local what=$1
    shift
    why="it failed without a word"
    if "$@" 2>"$work/stderr"; then
        echo "ok - $what"
    else
        echo "not ok - $what: $why $(tr '\n' ' ' <"$work/stderr" | tail -c 300)"
        failed=1
    fi
}

expect() { # FOUND EXPECTED WHAT
    [ "$1" = "$2" ] && return 0
    why="$3: expected '$2', found '$1'"
    return 1
}

until_() { # WHAT COMMAND…: polls for 30 seconds at most
    local what=$1 deadline=$((SECONDS + 30))
    shift
    until "$@"; do
        if [ $SECONDS -ge $deadline ]; then
            why="not within 30 s: $what"
            return 1
        fi
        sleep 0.1
    done
}

create() { # TOPIC: the first metadata request creates it
    until_ "$1 has a leader" has_leader "$1"
}

has_leader() { cat_ -L -t "$1" 2>/dev/null | grep -q 'partition 0, leader [0-9]'; }

produce() { # TOPIC ARGUMENTS… <records
    local to=$1
    shift
    cat_ -P -t "$to" -p 0 -X acks=all -X message.timeout.ms=20000 "$@" || { why="produce failed:"; return 1; }
}

read_all() { # TOPIC ARGUMENTS…
    local from=$1
    shift
    cat_ -C -q -t "$from" -p 0 -o beginning -e "$@"
}

codec() {
    local to
    to=$(topic "$1")
    create "$to" || return 1
    seq -f "$1 record number %g" 1 500 >"$work/sent"
    produce "$to" -z "$1" <"$work/sent" || return 1
    read_all "$to" >"$work/found"
    expect "$(cksum <"$work/found")" "$(cksum <"$work/sent")" "checksum of the records"
}

headers() {
    local to
    to=$(topic headers)
    create "$to" || return 1
    echo v | produce "$to" -H a=1 -H a=2 -H empty= || return 1
    expect "$(read_all "$to" -f '%h|%s\n')" "a=1,a=2,empty=|v" "headers and value"
}

nulls() {
    local to
    to=$(topic nulls)
    create "$to" || return 1
    printf 'v\n' | produce "$to" || return 1
    printf 'k:\n' | produce "$to" -Z -K: || return 1
    expect "$(read_all "$to" -f '%K:%S\n')" "$(printf '%s\n' -1:1 1:-1)" "lengths of keys and values"
}

times() {
    local to
    to=$(topic times)
    create "$to" || return 1
    local before
    before=$(($(date +%s%3N) - 60000))
    printf 'a\nb\n' | produce "$to" || return 1
    expect "$(query "$to" -2)" 0 "earliest offset" && expect "$(query "$to" -1)" 2 "latest offset" \
        && expect "$(query "$to" $before)" 0 "offset by timestamp" \
        && expect "$(query "$to" $((before + 600000)))" 2 "offset past the last timestamp"
}

query() { # TOPIC TIMESTAMP: the end of the partition stands for "none"
    local found
    found=$(cat_ -Q -t "$1:0:$2" | sed -n 's/.*offset \(-\{0,1\}[0-9]*\).*/\1/p')
    [ "$found" = "-1" ] && found=$(query "$1" -1)
    echo "$found"
}

member() { # NAME GROUP TOPICS…: starts a member; partitions go round
    local name=$1 group=$2
    shift 2
    kcat -u -b "$address" -G "$group" -X partition.assignment.strategy=roundrobin -X auto.offset.reset=earliest \
        -X session.timeout.ms=10000 -X heartbeat.interval.ms=500 -f '%t %s\n' "$@" >"$work/$name.out" 2>"$work/$name.err" &
    members+=($!)
}

owns() { # NAME COUNT: partitions in its last assignment
    local last
    last=$(grep 'assigned:' "$work/$1.err" | tail -n 1)
    [ "$(grep -o '\[[0-9]*\]' <<<"$last" | wc -l)" -eq "$2" ]
}

both_read() { [ "$(cat "$work/first.out" "$work/second.out" | sort | uniq | wc -l)" -eq 2 ]; }

rebalance() {
    local one two group
    one=$(topic rebalance-one) two=$(topic rebalance-two) group=$(topic rebalance)
    create "$one" && create "$two" || return 1
    member first "$group" "$one" "$two"
    until_ "the first member owns both" owns first 2 || return 1
    member second "$group" "$one" "$two"
    until_ "the second member owns one" owns second 1 || return 1
    until_ "the first member keeps one" owns first 1 || return 1
    echo v | produce "$one" || return 1
    echo v | produce "$two" || return 1
    until_ "both members read theirs" both_read || return 1
    kill -INT "${members[1]}"
    until_ "the member that stays owns both" owns first 2 || return 1
    kill -INT "${members[0]}"
    wait "${members[@]}"
    expect "$(cat "$work/first.out" "$work/second.out" | wc -l)" 2 "records of both"
}

resume() {
    local to group
    to=$(topic resume) group=$(topic resume)
    create "$to" || return 1
    seq 1 10 | produce "$to" || return 1
    # kcat commits what it printed when it leaves.
    expect "$(cat_ -q -G "$group" -X auto.offset.reset=earliest -c 4 "$to" | tr '\n' ' ')" "1 2 3 4 " "records before the restart" || return 1
    expect "$(cat_ -q -G "$group" -X auto.offset.reset=earliest -c 6 "$to" | tr '\n' ' ')" "5 6 7 8 9 10 " "records after the restart"
}

echo "n/a - create topic: kcat has no command for it; the first metadata request creates"
for name in none gzip snappy lz4 zstd; do
    check "produce and consume with codec $name" codec "$name"
done
check "headers" headers
check "null keys and null values" nulls
check "list offsets by time" times
check "group of two rebalances" rebalance
check "commit and resume" resume
echo "n/a - delete topic: kcat has no command for it"
exit $failed
