// Package config is Reservoir's configuration: one struct, filled in this order
// of precedence, the later over the earlier: the defaults in the struct's tags,
// one YAML file, RESERVOIR_* environment variables, command-line flags. Every
// value remembers where it came from, so that an error or `reservoir config
// show` can say so; a key that does not exist is an error, never ignored.
//
// The struct below is the only list of keys. The tags of a field are its whole
// documentation: `koanf` its name, `default` its default as text, `doc` what it
// means, `enum` the values it may take, `min` the least number or size, `env` its
// environment variable where that is not made of its name.
package config

import "github.com/reservoirhq/reservoir/event"

// Config is the whole configuration. Load fills it and checks it.
type Config struct {
	Redis     Redis         `koanf:"redis" doc:"The Redis that holds the streams; 7.0 or newer."`
	Store     Store         `koanf:"store" doc:"The object store that holds the archive."`
	Streams   Streams       `koanf:"streams" doc:"Which streams are archived."`
	Archive   Archive       `koanf:"archive" doc:"How streams are archived."`
	Envelope  event.Mapping `koanf:"envelope" doc:"Names of the fields that make up an event's envelope, the most wanted first. Case and separators do not count; a list replaces the default names, and - alone says that there is no such field."`
	Retention Retention     `koanf:"retention" doc:"How long the archive keeps what, and how it is tidied."`
	Jobs      Jobs          `koanf:"jobs" doc:"How workers run jobs."`
	Replay    Replay        `koanf:"replay" doc:"What replays may do."`

	ClickHouse  ClickHouse  `koanf:"clickhouse" doc:"The ClickHouse that holds the tables of projections; 24.8 or newer."`
	Projections Projections `koanf:"projections" doc:"Which projections there are."`

	Server Server `koanf:"server" doc:"The API and the web page, of reservoir serve."`
	Client Client `koanf:"client" doc:"The server that the commands of jobs (reservoir replay, reservoir rebuild) go through, in place of the bucket."`

	Log     Log     `koanf:"log" doc:"Logs, written to standard error."`
	Metrics Metrics `koanf:"metrics" doc:"Prometheus metrics and health of a daemon."`
}

// Redis says how to reach the Redis that holds the streams.
type Redis struct {
	URL              URL      `koanf:"url" default:"redis://localhost:6379" doc:"redis://[user:password@]host[:port][/db]; rediss:// for TLS; redis+sentinel://host,host/master[/db]; redis+cluster://host,host; unix:///path. The keys below override its parts."`
	Mode             string   `koanf:"mode" enum:"single,sentinel,cluster" doc:"Kind of deployment; empty: as the URL's scheme says (redis+sentinel://, redis+cluster://), else single."`
	Addrs            []string `koanf:"addrs" doc:"host:port of the server, the sentinels or some cluster nodes, in place of the URL's."`
	MasterName       string   `koanf:"master_name" doc:"Name of the master, as the sentinels know it."`
	Username         string   `koanf:"username" doc:"ACL user."`
	Password         Secret   `koanf:"password" doc:"Password of the user."`
	PasswordFile     string   `koanf:"password_file" doc:"File that holds the password; a trailing newline is dropped."`
	SentinelUsername string   `koanf:"sentinel_username" doc:"ACL user at the sentinels."`
	SentinelPassword Secret   `koanf:"sentinel_password" doc:"Password at the sentinels."`
	SentinelPassFile string   `koanf:"sentinel_password_file" doc:"File that holds the password at the sentinels."`
	DB               int      `koanf:"db" default:"0" min:"0" doc:"Database number; 0: as the URL says."`
	TLS              TLS      `koanf:"tls" doc:"TLS to Redis."`
	DialTimeout      Duration `koanf:"dial_timeout" default:"5s" min:"1ms" doc:"Longest wait for a connection."`
	ReadTimeout      Duration `koanf:"read_timeout" default:"10s" min:"1ms" doc:"Longest silence of a server while an answer is due, or a write is blocked."`
}

// TLS says how a connection is secured.
type TLS struct {
	Enabled            bool   `koanf:"enabled" default:"false" doc:"Use TLS whatever the URL's scheme says."`
	CAFile             string `koanf:"ca_file" doc:"File with the authorities to trust, PEM; empty: the system's."`
	CertFile           string `koanf:"cert_file" doc:"File with the client's certificate, PEM."`
	KeyFile            string `koanf:"key_file" doc:"File with the client's private key, PEM."`
	ServerName         string `koanf:"server_name" doc:"Name the server's certificate must have; empty: the host's."`
	InsecureSkipVerify bool   `koanf:"insecure_skip_verify" default:"false" doc:"Accept any certificate. For tests only."`
}

// Store says where the archive is.
type Store struct {
	URL           URL      `koanf:"url" doc:"Where the archive is: s3://bucket/prefix or file:///directory."`
	Endpoint      string   `koanf:"endpoint" doc:"URL of the S3 service; empty: AWS."`
	Region        string   `koanf:"region" doc:"Region of the bucket; empty: from the AWS environment, else us-east-1."`
	PathStyle     bool     `koanf:"path_style" default:"false" doc:"Address buckets as endpoint/bucket, as most S3 servers other than AWS need it."`
	AccessKey     string   `koanf:"access_key" doc:"Access key; empty: the standard AWS chain (environment, profile, role)."`
	SecretKey     Secret   `koanf:"secret_key" doc:"Secret key that goes with the access key."`
	SecretKeyFile string   `koanf:"secret_key_file" doc:"File that holds the secret key."`
	Checksum      string   `koanf:"checksum" default:"crc32c" enum:"crc32c,none" doc:"Checksum sent with every upload."`
	PartSize      Size     `koanf:"part_size" default:"5MiB" min:"5MiB" doc:"Size of the parts of a multipart upload; two or three are in memory for each upload."`
	Timeout       Duration `koanf:"timeout" default:"1m" min:"1s" doc:"Longest wait for a connection that makes no progress."`
	MaxAttempts   int      `koanf:"max_attempts" default:"5" min:"1" doc:"How often a request is sent that fails in a way that may pass, with exponential backoff."`
}

// Streams says which streams are archived.
type Streams struct {
	Include          []string `koanf:"include" default:"*" doc:"Patterns of stream names, as in Redis's KEYS; a name without wildcards is used without a scan."`
	Exclude          []string `koanf:"exclude" doc:"Patterns of streams to leave out."`
	DiscoverInterval Duration `koanf:"discover_interval" default:"30s" min:"1s" doc:"How often Redis is scanned for new streams."`
}

// Archive says how streams are archived.
type Archive struct {
	Formats      []string `koanf:"formats" default:"jsonl,parquet" enum:"jsonl,parquet" doc:"Formats that every segment is written in; at least one."`
	Roll         Roll     `koanf:"roll" doc:"When a segment ends: at whichever of these comes first, and at every full hour of event IDs."`
	Poll         Poll     `koanf:"poll" doc:"How often quiet streams are looked at."`
	Concurrency  int      `koanf:"concurrency" default:"16" min:"1" doc:"Streams drained at once."`
	MaxBusy      int      `koanf:"max_busy" default:"2" min:"1" doc:"Streams with a lot pending that are drained at once; each needs about 40 MiB."`
	MaxEntrySize Size     `koanf:"max_entry_size" default:"64MiB" min:"1KiB" doc:"A larger entry stops its stream with an error that names it; it is never cut."`
	Group        string   `koanf:"group" doc:"Consumer group that mirrors the committed head, so that Redis's own tools show the lag; empty: none."`
	Trim         Trim     `koanf:"trim" doc:"Trimming of what is safely archived."`
}

// Roll says when a segment ends.
type Roll struct {
	Size  Size     `koanf:"size" default:"128MiB" min:"64KiB" doc:"Compressed bytes."`
	Count int      `koanf:"count" default:"1000000" min:"1" doc:"Events."`
	Age   Duration `koanf:"age" default:"30s" min:"100ms" doc:"Longest time from an event's arrival to the commit that archives it."`
}

// Poll says how often streams are looked at.
type Poll struct {
	Interval    Duration `koanf:"interval" default:"1s" min:"10ms" doc:"For streams that are written to."`
	MaxInterval Duration `koanf:"max_interval" default:"5s" min:"10ms" doc:"For streams that have been quiet."`
}

// Trim says what may be trimmed from Redis.
type Trim struct {
	Enabled bool     `koanf:"enabled" default:"false" doc:"Trim entries from Redis once they are archived, older than retain, and no consumer group needs them."`
	Retain  Duration `koanf:"retain" default:"24h" min:"0s" doc:"Entries younger than this stay in Redis."`
}

// Retention says how long the archive keeps what.
type Retention struct {
	ExpireAfter Duration `koanf:"expire_after" default:"0s" min:"0s" doc:"Age at which whole segments are dropped from the archive; 0: never."`
	GCGrace     Duration `koanf:"gc_grace" default:"24h" min:"0s" doc:"How long objects that the archive no longer names are kept, for readers that still use them and uploads in flight."`
	Compact     Compact  `koanf:"compact" doc:"Merging of small segments."`
}

// Compact says which segments are merged.
type Compact struct {
	TargetSize  Size     `koanf:"target_size" default:"256MiB" min:"64KiB" doc:"Size up to which the segments of an hour are merged into one."`
	TargetCount int      `koanf:"target_count" default:"5000000" min:"1" doc:"Events up to which the segments of an hour are merged into one."`
	MinAge      Duration `koanf:"min_age" default:"1h" min:"0s" doc:"Segments younger than this are left alone."`
}

// Jobs says how workers run jobs.
type Jobs struct {
	Concurrency int      `koanf:"concurrency" default:"4" min:"1" doc:"Jobs of one kind that a worker runs at once."`
	PerTarget   int      `koanf:"per_target" default:"1" min:"1" doc:"Jobs that write to the same target at once, over all workers."`
	Poll        Duration `koanf:"poll" default:"2s" min:"10ms" doc:"How often a worker looks for jobs, and for what people asked of the ones it runs."`
	LeaseTTL    Duration `koanf:"lease_ttl" default:"15s" min:"100ms" doc:"How long a job stays unchanged until another worker takes it over; its worker renews it three times as often. Less than 5s is not advised on S3, where a slow request or two would cost a worker its jobs."`
	KeepFailed  Duration `koanf:"keep_failed" default:"30d" min:"0s" doc:"How long a failed job can be retried; then a worker cleans up after it and closes it. 0s is at once."`
	KeepEnded   Duration `koanf:"keep_ended" default:"365d" min:"0s" doc:"How long a job that ended is kept, with its log, dead letters and idempotency key; then a worker deletes it. 0s is for ever."`
}

// Replay says what replays may do.
type Replay struct {
	AllowHosts []string `koanf:"allow_hosts" default:"localhost,127.0.0.1,::1" doc:"Hosts that replays may write to over HTTP, to brokers or to another Redis: host, host:port or *.domain. The Redis of this configuration is always allowed."`
	FilesDir   string   `koanf:"files_dir" doc:"Directory in which workers may write files; empty: none. A replay that runs in the foreground may write anywhere."`
	Upcasters  string   `koanf:"upcasters" doc:"File or directory with upcasters, YAML."`
}

// ClickHouse says how to reach the ClickHouse that holds projections.
type ClickHouse struct {
	URL          URL          `koanf:"url" doc:"clickhouse://[user:password@]host[:port][,host:port][/database] for the native protocol, http:// or https:// for HTTP. The keys below override its parts."`
	Username     string       `koanf:"username" doc:"User."`
	Password     Secret       `koanf:"password" doc:"Password of the user."`
	PasswordFile string       `koanf:"password_file" doc:"File that holds the password; a trailing newline is dropped."`
	Database     string       `koanf:"database" doc:"Database of the tables; empty: as the URL says, else default."`
	ArchiveDB    string       `koanf:"archive_database" default:"archive" doc:"Database of the views over the archive; see reservoir migrate."`
	Cluster      string       `koanf:"cluster" doc:"Name of the cluster, as in system.clusters, on whose servers tables are made, and which share the reading of an archive on S3; empty: the one server."`
	Readers      string       `koanf:"readers" doc:"Name of the cluster, as in system.clusters, whose servers share the reading of an archive on S3; empty: clickhouse.cluster, or else the one server. Tables are not made there."`
	Replicated   bool         `koanf:"replicated" default:"false" doc:"Make replicated tables."`
	TLS          TLS          `koanf:"tls" doc:"TLS to ClickHouse."`
	DialTimeout  Duration     `koanf:"dial_timeout" default:"10s" min:"1ms" doc:"Longest wait for a connection."`
	ArchiveDir   string       `koanf:"archive_dir" doc:"Absolute path of store.url's directory on the server of ClickHouse, below its user_files_path, for an archive in a directory: ClickHouse then reads the archive itself. Empty: it does not."`
	S3           ClickHouseS3 `koanf:"s3" doc:"How ClickHouse itself reads the archive from S3. What is empty is as store says."`
}

// ClickHouseS3 says how ClickHouse itself reads the archive.
type ClickHouseS3 struct {
	Endpoint      string `koanf:"endpoint" doc:"URL of the S3 service as ClickHouse reaches it."`
	Credentials   string `koanf:"credentials" default:"keys" enum:"keys,own,none" doc:"keys: those below, else those of store, are sent along; own: those that ClickHouse finds in its own environment; none: the bucket is public."`
	AccessKey     string `koanf:"access_key" doc:"Access key, of a user who may only read."`
	SecretKey     Secret `koanf:"secret_key" doc:"Secret key that goes with the access key."`
	SecretKeyFile string `koanf:"secret_key_file" doc:"File that holds the secret key."`
	Collection    string `koanf:"collection" doc:"Named collection at ClickHouse that holds the keys; then none are sent."`
}

// Projections says which projections there are.
type Projections struct {
	Dir   string `koanf:"dir" doc:"Directory with definitions, *.yaml; empty: none."`
	State string `koanf:"state" doc:"Directory on local disk for the states of folds; empty: reservoir-folds in the directory for temporary files."`
}

// Log says what is logged.
type Log struct {
	Level  string `koanf:"level" default:"info" enum:"debug,info,warn,error" doc:"Least level that is logged."`
	Format string `koanf:"format" default:"auto" enum:"auto,text,json" doc:"auto is text on a terminal and JSON otherwise."`
}

// Metrics says where metrics are served.
type Metrics struct {
	Listen string `koanf:"listen" doc:"host:port of /metrics and /healthz; empty: not served."`
}
