# Completion of adit, wg and wg-quick for fish: adit itself knows what may come next.
function __adit_complete
    set -l words (commandline -opc) (commandline -ct)
    set words[1] (path basename $words[1])
    adit complete -- $words 2>/dev/null
end
for program in adit wg wg-quick
    complete -c $program -a '(__adit_complete)'
end
