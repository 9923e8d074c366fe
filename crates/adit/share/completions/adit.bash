# Completion of adit, wg and wg-quick for bash: adit itself knows what may come next.
_adit() {
    local line=${COMP_LINE:0:COMP_POINT} words word
    read -ra words <<< "$line"
    # A word that has not begun is a word too.
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[-1]}
    words[0]=${words[0]##*/}
    mapfile -t COMPREPLY < <(adit complete -- "${words[@]}" 2> /dev/null)
    # bash puts back only what is behind the last colon or equals sign.
    local before=${word%"${word##*[:=]}"}
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o default -F _adit adit wg wg-quick
