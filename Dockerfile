# docker build -t posthouse .
# docker run -v posthouse:/data -p 8080:8080 -p 8443:8443 -p 1883:1883 -p 8883:8883 -p 5222:5222 -p 5223:5223 -p 7400:7400 -p 7401:7401 posthouse
# docker exec CONTAINER /posthouse user add alice --password …
#
# The plain ports are open too; over them passwords are not taken from outside.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/posthouse ./cmd/posthouse \
 && mkdir -m 0700 /out/data

FROM scratch
COPY --from=build /out/posthouse /posthouse
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
VOLUME /data
ENV POSTHOUSE_DATA=/data \
    POSTHOUSE_HTTP=:8080 POSTHOUSE_HTTPS=:8443 \
    POSTHOUSE_MQTT=:1883 POSTHOUSE_MQTTS=:8883 \
    POSTHOUSE_XMPP=:5222 POSTHOUSE_XMPPS=:5223 \
    POSTHOUSE_LINK=:7400 POSTHOUSE_LINKS=:7401
EXPOSE 8080 8443 1883 8883 5222 5223 7400 7401
ENTRYPOINT ["/posthouse"]
CMD ["serve"]
