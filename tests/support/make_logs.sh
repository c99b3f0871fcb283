#!/bin/sh
# SPDX-License-Identifier: MIT
#
#   make_logs.sh DIR SEED LINES
#
# Writes logs whose truth is known, in the three forms that logmill reads: DIR/syslog.log,
# DIR/zookeeper.log and DIR/other.log. Beside each lies FORM.truth with SOURCE, TAB, MESSAGE for every
# line that is not blank. Lines end in LF or CRLF, the last one in nothing; blank lines are strewn in.
set -eu
dir=$1 seed=$2 lines=$3

for form in syslog zookeeper other; do
	LC_ALL=C awk -v form="$form" -v dir="$dir" -v seed="$seed" -v lines="$lines" '
function pick(list,    a, n) {
	n = split(list, a, "|")
	return a[1 + int(rand() * n)]
}

function digits(n,    s) {
	while (n-- > 0)
		s = s int(rand() * 10)
	return s
}

function hex(n,    s) {
	while (n-- > 0)
		s = s substr("0123456789abcdefABCDEF", 1 + int(rand() * 22), 1)
	return s
}

function address() {
	return int(rand() * 256) "." int(rand() * 256) "." int(rand() * 256) "." int(rand() * 256)
}

# Pieces that are next to a match, or one without looking so.
function odd() {
	return pick("0x|0xg1|x12|_1_|12345678|1234567|deadbeef|deadbee|DEADBEEF9|1.2.3|1.2.3.4.5|" \
		"1234.1.1.1|1.1.1.1234|1.1.1.1:|:80|..|-1|\303\251|\377|a\rb|\t|<n>|<ip>|0.0.0.0_|{3}|$|\\")
}

function piece(kind) {
	if (kind == "n")
		return digits(1 + int(rand() * 7))
	if (kind == "i")
		return address()
	if (kind == "p")
		return address() ":" digits(1 + int(rand() * 5))
	if (kind == "x")
		return "0x" hex(1 + int(rand() * 12))
	if (kind == "h")
		return hex(8 + int(rand() * 12))
	return kind
}

# Most messages are one of a few sentences with other numbers in them, as in life.
function sentence(    i, n, s) {
	n = 1 + int(rand() * 8)
	for (i = 0; i < n; i++)
		s = s pick("n|i|p|x|h|channel|opened for|user=|id:|took|ms|failed|(|), |[preauth]|/") " "
	return s
}

function message(    a, i, n, s) {
	if (rand() < 0.02)
		return ""
	if (rand() < 0.1) {
		n = 1 + int(rand() * 10)
		for (i = 0; i < n; i++)
			s = s odd()
	} else {
		n = split(sentences[int(rand() * 40)], a, " ")
		for (i = 1; i <= n; i++)
			s = s (i > 1 ? " " : "") piece(a[i])
	}
	return "said " s ";"
}

function clock() {
	return sprintf("%02d:%02d:%02d", rand() * 24, rand() * 60, rand() * 60)
}

function month() {
	return pick("Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec")
}

function iso(    sep) {
	sep = pick("-|/|.")
	return sprintf("20%02d%s%02d%s%02d", rand() * 30, sep, 1 + rand() * 12, sep, 1 + rand() * 28)
}

# Date and time as many a program writes it; empty for those that write none.
function stamp(    k) {
	k = int(rand() * 9)
	if (k == 0)
		return ""
	if (k == 1)
		return iso() " " clock() " "
	if (k == 2)
		return iso() "T" clock() "Z "
	if (k == 3)
		return iso() "T" clock() "." digits(6) "+02:00 "
	if (k == 4)
		return iso() " " clock() "," digits(3) " "
	if (k == 5)
		return "[" pick("Mon|Tue|Sun") " " month() " " digits(1) + 10 " " clock() " 2019] "
	if (k == 6)
		return sprintf("%02d/%s/2021:%s +0000 ", 1 + rand() * 28, month(), clock())
	if (k == 7)
		return sprintf("%s %2d %s ", month(), 1 + rand() * 28, clock())
	return sprintf("[%s %s] ", iso(), clock())
}

function syslog(text,    host, tag) {
	host = pick("web1|web2|db-0.example.org|10.1.2.3")
	tag = pick("sshd|CRON|systemd-logind|kernel|postfix/smtpd|su")
	if (rand() < 0.7)
		tag = tag "[" int(rand() * 300) "]"
	source = host "/" tag
	return sprintf("%s %2d %s %s %s: ", month(), 1 + rand() * 28, clock(), host, tag) text
}

function zookeeper(text,    thread, component) {
	thread = pick("main|Thread-7|QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181|/10.1.2.3:3888|" \
		"ProcessThread(sid:1 cport:-1):|SendWorker:188978561024|a@b|@1] x")
	component = pick("Leader|Learner|QuorumCnxManager$Listener|NIOServerCnxn|ZooKeeperServer")
	source = form ".log/" component
	return sprintf("%s %s,%s - %-5s [%s:%s@%d] - ", "2015-07-29", clock(), digits(3),
		pick("INFO|WARN|ERROR"), thread, component, rand() * 1000) text
}

function other(text,    first) {
	first = pick("worker|[notice]|E/Activity(12):|at|<0.1.2>|a=1|-|\303\234ber|12345")
	source = form ".log/" first
	return stamp() first (text == "" ? "" : pick(" |  |\t")) text
}

BEGIN {
	srand(seed)
	for (i = 0; i < 40; i++)
		sentences[i] = sentence()
	for (i = 0; i < 150; i++)
		sentences[38] = sentences[38] "padding n " # a template of more than 255 bytes
	for (i = 0; i < 900; i++)
		sentences[39] = sentences[39] "filling i n " # and one of more than 1024
	log_file = dir "/" form ".log"
	truth = dir "/" form ".truth"
	printf "" >log_file
	printf "" >truth
	for (i = 1; i <= lines; i++) {
		text = message()
		if (form == "syslog")
			line = syslog(text)
		else if (form == "zookeeper")
			line = zookeeper(text)
		else
			line = other(text)
		ORS = "\n"
		print source "\t" text >truth
		ORS = i == lines ? "" : pick("\n|\r\n")
		if (i < lines && rand() < 0.05)
			ORS = ORS pick("\n|\r\n|  \n|\t\r\n|\n\n\n")
		print line >log_file # printf has a bound on its output in some awks
	}
}
'
done
