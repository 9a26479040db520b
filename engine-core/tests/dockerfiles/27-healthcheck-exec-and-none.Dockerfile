FROM busybox AS checked
HEALTHCHECK CMD ["/check", "--fast"]
FROM checked
HEALTHCHECK NONE
