#!/bin/sh
# Print who asked a site for what, as a page of goaccess'. Nothing is left on the host.
# usage: visits.sh FOLDER APP DAYS OPS_PREFIX whole|cut OPTION_OF_GOACCESS...
set -eu
folder=$1 app=$2 days=$3 ops_prefix=$4 addresses=$5
shift 5
if [ "$addresses" = cut ]; then set -- --anonymize-ip "$@"; fi
# As conf.d/logging.conf of nginx writes a line. What is not named here is passed over.
form='{"timestamp":"%dT%t+%^","site":"%v","client":"%h","method":"%m","path":"%U","protocol":"%H",'
form="$form"'"status":"%s","bytes_sent":"%b","request_time":"%T","user_agent":"%u"}'
# Files that changed in that time; logrotate makes one a day. Health is asked for by machines, all day.
find "$folder" -maxdepth 1 -name "$app.access.log*" -mtime "-$days" -print0 | sort -z | xargs -0 -r zcat -f |
    grep -Ev "\"path\":\"$ops_prefix/(livez|readyz|startupz|version)\"" |
    nice -n 19 goaccess - --no-global-config --no-progress --log-format="$form" \
        --date-format=%Y-%m-%d --time-format=%T "$@"
