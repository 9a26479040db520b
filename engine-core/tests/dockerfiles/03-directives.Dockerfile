# syntax=docker/dockerfile:1
# check=skip=JSONArgsRecommended
# escape=\

FROM busybox
CMD echo hello
