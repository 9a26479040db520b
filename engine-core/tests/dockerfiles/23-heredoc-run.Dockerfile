FROM busybox
RUN <<EOF
echo one
echo "two"
EOF
RUN <<-"TABS"
	echo $not_expanded
	TABS
RUN cat <<A > /a && cat <<B > /b
first
A
second
B
