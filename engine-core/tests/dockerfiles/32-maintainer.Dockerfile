FROM scratch
MAINTAINER Somebody <somebody@example.com>
