FROM busybox
ADD archive.tar.gz /unpacked/
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/file.tar.xz /file
ADD --keep-git-dir=true https://github.com/example/repo.git#v1.0:docs /src
ADD --unpack=true https://example.com/archive.tar /x/
ADD --chown=1:1 --chmod=755 --link local /local
