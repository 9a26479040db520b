FROM busybox
LABEL autor="Jürgen Müller" 名前="テスト"
ENV GRÜSSE="schöne Grüße"
RUN echo "→ ${GRÜSSE}"
