FROM busybox
COPY *.txt file?.log [a-c]*.bin /dest/
COPY ["name with spaces", "[[]literal].txt", "/dest/"]
COPY . .
