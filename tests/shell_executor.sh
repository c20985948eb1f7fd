# An executor in bash and curl. What a task does is in its name: one that begins with "quick" is finished at once.
# "seek" fails if there is no file data/kept.
export LC_ALL=C
api="http://$MESOS_AGENT_ENDPOINT/api/v1/executor"
me="\"framework_id\":{\"value\":\"$MESOS_FRAMEWORK_ID\"},\"executor_id\":{\"value\":\"$MESOS_EXECUTOR_ID\"}"

post() {
    curl -sS -H 'Content-Type: application/json' -d "{$me,$1}" "$api"
}

update() {
    status="\"task_id\":{\"value\":\"$1\"},\"state\":\"$2\",\"source\":\"SOURCE_EXECUTOR\""
    post "\"type\":\"UPDATE\",\"update\":{\"status\":{$status,\"uuid\":\"$(head -c 16 /dev/urandom | base64)\"}}"
}

launch() {
    update "$1" TASK_RUNNING
    case $1 in
    quick*) update "$1" TASK_FINISHED ;;
    hungry*) head -c 100000000 /dev/zero | tail ;;
    quit*) exit 3 ;;
    seek*) [ -e data/kept ] && update "$1" TASK_FINISHED || update "$1" TASK_FAILED ;;
    esac
}

tasks_of() {
    grep -o '"task_id":{"value":"[^"]*"' <<<"$1" | cut -d '"' -f 6
}

handle() {
    case $1 in
    '{"type":"LAUNCH"'* | '{"type":"LAUNCH_GROUP"'*) for task in $(tasks_of "$1"); do launch "$task"; done ;;
    '{"type":"KILL"'*) update "$(tasks_of "$1")" TASK_KILLED ;;
    '{"type":"MESSAGE"'*) post "\"type\":\"MESSAGE\",\"message\":{\"data\":\"$(base64 <<<"got it")\"}" ;;
    '{"type":"SHUTDOWN"'*) [ -e stubborn ] || exit 0 ;;
    esac
}

subscribe() {
    curl -sSN -H 'Content-Type: application/json' -H 'Accept: application/json' \
        -d "{$me,\"type\":\"SUBSCRIBE\",\"subscribe\":{}}" "$api"
}

while :; do
    while read -r length && IFS= read -r -N "$length" event; do
        echo "$event" >>events
        handle "$event"
    done < <(subscribe)
    [ "$MESOS_CHECKPOINT" = 1 ] || exit 0 # Its agent is gone, and it does not outlive that.
    sleep 0.05
done
