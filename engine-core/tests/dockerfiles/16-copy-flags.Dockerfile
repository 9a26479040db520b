FROM busybox
COPY --chown=1000:1000 --chmod=0644 a b /dest/
COPY --chown=user:group c /dest/c
COPY --chmod=u=rwX,go=rX d /dest/d
COPY --link e /dest/e
COPY --parents f/g/*.txt /dest/
COPY --exclude=*.md --exclude=**/tmp docs /docs
