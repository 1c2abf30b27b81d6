{{/* The append-only log is the only place where an accepted message lives until it is answered. */}}
{{- define "platform.redis.conf" -}}
port 6379
bind * -::*
dir /data
aclfile /etc/redis/acl/users.acl
appendonly yes
appendfsync {{ .Values.redis.appendfsync }}
save ""
maxmemory {{ .Values.redis.maxmemory }}
maxmemory-policy noeviction
maxclients {{ int .Values.redis.maxclients }}
tcp-keepalive 60
timeout 0
{{- end }}
