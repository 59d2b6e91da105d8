package desktop

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fenrir/media"
	"fenrir/media/desktop/quota"
	"fenrir/media/desktop/traces"
	"fenrir/media/desktop/tree"
	"fenrir/media/priority"
	"fenrir/media/slack"
)

// Main is the supervisor: our binary started again by Desktop, with its socket as
// conn. It returns the exit status: 0 when nothing of the desktop is left, 1 when
// something is, 2 when it was not started as it should be.
func Main(conn *os.File) int {
	// The kernel ties a child's parent-death signal to the thread that started
	// it, so one thread, which never ends, starts all (golang/go#27505).
	runtime.LockOSThread()
	priority.Yield() // the server's is not the program's
	debug.SetMemoryLimit(24 << 20)
	if err := keepDescriptors(); err != nil {
		fmt.Fprintln(os.Stderr, "desktop: descriptors:", err)
		return 2
	}
	socket, err := net.FileConn(conn)
	_ = conn.Close() // FileConn has its own descriptor
	if err != nil {
		fmt.Fprintln(os.Stderr, "desktop: no socket:", err)
		return 2
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "desktop: become subreaper:", err)
		return 2
	}

	in := lines(socket)
	_ = socket.SetReadDeadline(time.Now().Add(5 * time.Second)) // a server that hangs is as one that is dead
	if !in.Scan() {
		return 0 // the server died before it said what to start
	}
	first, err := decode[order](in.Bytes())
	if err != nil || first.Start == nil {
		fmt.Fprintln(os.Stderr, "desktop: no start order:", err)
		return 2
	}
	_ = socket.SetReadDeadline(time.Time{}) // cannot fail where the line above did not
	room, err := confine(first.Start)
	if err != nil { // what does not hold here, is measured
		fmt.Fprintln(os.Stderr, "desktop: limits:", err)
	}

	ctx, cancel := context.WithCancel(context.Background()) // this is the main of a process
	defer cancel()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	go func() { // ends with the process
		for sig := range signals {
			if sig != unix.SIGPIPE { // caught because children would inherit that it is ignored
				cancel()
			}
		}
	}()
	go func() { // ends with the socket
		defer cancel()
		for in.Scan() {
			if o, err := decode[order](in.Bytes()); err != nil || o.Stop {
				return
			}
		}
	}()

	k := &keeper{ctx: ctx, pid: os.Getpid(), runtime: first.Start.Spec.Runtime, group: first.Start.Group, room: room,
		nice:  niceness(first.Start.Spec.Limits.CPUWeight),
		forks: make(chan fork), exits: make(chan exit), over: make(chan int, 1),
		kick: make(chan struct{}, 1), changed: make(chan struct{}, 1), ours: map[int]bool{}}
	if k.nice != 0 {
		k.leisurely = leisurely(k.nice, first.Start.Group)
	}
	s := &stage{start: *first.Start, keeper: k, socket: socket, cancel: cancel}
	go k.wait() // ends with the process
	go func() { k.over <- s.run(ctx) }()
	return k.loop()
}

// keepDescriptors sees to it that the program inherits nothing that is open here:
// our socket, and whatever the server's own parent forgot to close.
func keepDescriptors() error {
	const first = 3
	if unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	open, err := os.ReadDir("/proc/self/fd") // Linux before 5.11
	if err != nil {
		return err
	}
	for _, e := range open {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}

// confine puts this thread, which starts all processes, within the limits that the
// kernel holds. room is the descriptor of the control group to start them in.
func confine(s *start) (room int, err error) {
	room = -1
	group, err := s.Group.Open()
	if err == nil && group != nil {
		room, err = unix.FcntlInt(group.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		err = errors.Join(err, group.Close())
	}
	err = errors.Join(err, s.Group.Enter())
	if n := uint64(s.Spec.Limits.Files); n > 0 {
		var was syscall.Rlimit
		if e := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); e != nil {
			return room, errors.Join(err, e)
		}
		n = min(n, was.Max)
		err = errors.Join(err, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}))
	}
	return room, err
}

// niceness is what comes closest to a weight where there are no control groups:
// one step is a factor of 1.25.
func niceness(weight int) int {
	if weight <= 0 {
		return 0
	}
	return min(max(int(math.Round(math.Log(100/float64(weight))/math.Log(1.25))), -20), 19)
}

// leisurely starts a thread that does what it receives within the group and at the
// nice value, as it is inherited from the first instruction on: what is set from
// outside comes too late for what a program has started by then. The thread is
// never taken back, and lives as long as the process: with its parent thread a
// child of ours would die.
func leisurely(nice int, group *quota.Group) chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		if err := group.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, "desktop: limits:", err)
		}
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice) // to be favoured takes rights
		for f := range work {
			f()
		}
	}()
	return work
}

// keeper starts and reaps the children of the supervisor.
type keeper struct {
	ctx     context.Context // of the desktop: nothing is started after its end
	pid     int
	runtime string
	group   *quota.Group
	room    int // descriptor of the control group that children start in, -1 without one
	nice    int // of the program

	leisurely chan<- func() // runs what starts the program, nil where nice is 0

	forks   chan fork
	exits   chan exit
	over    chan int      // receives the exit status of the supervisor
	kick    chan struct{} // there is a child again
	changed chan struct{} // capacity 1: a child was reaped

	mu   sync.Mutex // guards ours
	ours map[int]bool
}

// fork is a request to start a process.
type fork struct {
	name    string // for notes and messages
	path    string
	argv    []string
	env     []string
	dir     string
	files   []int // descriptors 0, 1, … of the child
	program bool  // it, and not one of our services
	out     chan<- forked
}

type forked struct {
	child *child
	err   error
}

type exit struct {
	pid    int
	status syscall.WaitStatus
}

// child is a process that the keeper started.
type child struct {
	tree.ID
	name   string
	done   chan struct{}      // closed when it was reaped
	status syscall.WaitStatus // valid after done
}

// start starts a process as leader of a session of its own.
func (k *keeper) start(f fork) (*child, error) {
	out := make(chan forked, 1)
	f.out = out
	k.forks <- f // loop runs until the supervisor ends
	r := <-out
	return r.child, r.err
}

// loop starts what is asked for, on the calling thread, and gives exit statuses to
// whom they belong, until the supervisor is over.
func (k *keeper) loop() int {
	live := map[int]*child{}
	for {
		select {
		case f := <-k.forks:
			c, err := k.fork(f)
			if err == nil {
				live[c.PID] = c
			}
			f.out <- forked{c, err}
		case e := <-k.exits:
			if c := live[e.pid]; c != nil {
				delete(live, e.pid)
				k.mu.Lock()
				delete(k.ours, e.pid)
				k.mu.Unlock()
				c.status = e.status
				close(c.done)
			}
			select {
			case k.changed <- struct{}{}:
			default:
			}
		case code := <-k.over:
			return code
		}
	}
}

func (k *keeper) fork(f fork) (*child, error) {
	if k.ctx.Err() != nil {
		return nil, context.Cause(k.ctx)
	}
	files := make([]uintptr, len(f.files))
	for i, fd := range f.files {
		files[i] = uintptr(fd)
	}
	attr := &syscall.ProcAttr{Dir: f.dir, Env: f.env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}}
	if k.room >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, k.room
	}
	var pid int
	var err error
	exec := func() {
		slack.Exact(func() { // games sleep exactly
			pid, err = syscall.ForkExec(f.path, f.argv, attr)
			if errors.Is(err, syscall.ENOEXEC) { // a script without #!, which every shell runs
				pid, err = syscall.ForkExec("/bin/sh", append([]string{"/bin/sh", f.path}, f.argv[1:]...), attr)
			}
		})
	}
	if f.program && k.leisurely != nil {
		done := make(chan struct{})
		k.leisurely <- func() { defer close(done); exec() } // the thread waits for nothing else
		<-done
	} else {
		exec()
	}
	if err != nil {
		return nil, err
	}
	c := &child{ID: tree.ID{PID: pid}, name: f.name, done: make(chan struct{})}
	if row, err := tree.Read(pid); err == nil { // else it is gone already
		c.ID = row.ID
	}
	if !f.program {
		k.mu.Lock()
		k.ours[pid] = true
		k.mu.Unlock()
		_ = unix.Setpriority(unix.PRIO_PROCESS, pid, priority.Service) // EACCES: no privilege
	}
	select {
	case k.kick <- struct{}{}:
	default:
	}
	if err := traces.Note(k.runtime, f.name, c.ID); err != nil {
		return c, nil // only a later clean-up is harder, and the folder may be going already
	}
	return c, nil
}

// wait reaps every child, started here or left to us by one that died.
func (k *keeper) wait() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == nil:
			k.exits <- exit{pid, ws}
		case errors.Is(err, syscall.ECHILD):
			<-k.kick
		}
	}
}

// everyone finds every process below the supervisor.
func (k *keeper) everyone() ([]tree.Process, error) {
	all, err := tree.Table()
	return tree.Below(all, k.pid), err
}

// programs finds the processes below the supervisor that are not our services:
// the program, what it started, and what it left behind.
func (k *keeper) programs() ([]tree.Process, error) {
	all, err := tree.Table()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var roots []int
	var found []tree.Process
	for _, p := range all {
		if p.Parent == k.pid && !k.ours[p.PID] {
			roots = append(roots, p.PID)
			found = append(found, p)
		}
	}
	return append(found, tree.Below(all, roots...)...), nil
}

// busy tells cheaply whether a program runs for certain: one of our own children
// is no service of ours. What it does not see, programs may find.
func (k *keeper) busy() bool {
	pids, err := tree.Children(k.pid)
	if err != nil {
		return false
	}
	k.mu.Lock()
	pids = slices.DeleteFunc(pids, func(pid int) bool { return k.ours[pid] })
	k.mu.Unlock()
	return slices.ContainsFunc(pids, func(pid int) bool {
		p, err := tree.Read(pid)
		return err == nil && !p.Dead()
	})
}

// await returns true once no program is left, and false when ctx ends first. It
// reads the whole process table only when it may have come to that: a player of
// another session would notice the work.
func (k *keeper) await(ctx context.Context) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if !k.busy() {
			if left, err := k.programs(); err == nil && len(left) == 0 {
				return true
			}
		}
		select {
		case <-k.changed:
		case <-tick.C: // a grandchild is reaped by somebody else
		case <-ctx.Done():
			return false
		}
	}
}

// ended waits until a child was reaped; it returns false when ctx ends first.
func (c *child) ended(ctx context.Context) bool {
	select {
	case <-c.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// how says how a process ended.
func how(ws syscall.WaitStatus) string {
	switch {
	case ws.Signaled():
		name := unix.SignalName(ws.Signal())
		if name == "" {
			name = fmt.Sprintf("signal %d", ws.Signal())
		}
		if ws.CoreDump() {
			name += " (core dumped)"
		}
		return "was ended by " + name
	case ws.Exited():
		return fmt.Sprintf("exited with status %d", ws.ExitStatus())
	}
	return "ended"
}

// strike ends the programs at once.
func (k *keeper) strike() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx), killGrace)
	defer cancel()
	if !k.group.Kill() {
		_, _, _ = tree.KillAll(ctx, k.programs) // stop says what is left
	}
}

// stop ends everything and removes every file. What the program needs in order to
// save its state stays until the program is gone, which gets time for that if it
// may be polite.
func (k *keeper) stop(services []*child, mayBePolite bool) (left []tree.Process, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx), teardownBound-300*time.Millisecond)
	defer cancel()
	polite, done := context.WithTimeout(ctx, termGrace)
	defer done()
	programs, err := k.programs()
	if !mayBePolite {
		done()
		programs = nil // they are stopped, and to be killed as such
	}
	for _, p := range programs {
		_ = p.Signal(unix.SIGTERM) // SIGKILL below tells what cannot be done
		_ = p.Signal(unix.SIGCONT)
	}
	if err != nil || !k.await(polite) {
		if _, _, err := tree.KillAll(ctx, k.programs); err != nil {
			return nil, err
		}
	}
	polite, done = context.WithTimeout(ctx, 400*time.Millisecond)
	defer done()
	for _, c := range services {
		_ = c.Signal(unix.SIGTERM)
		_ = c.Signal(unix.SIGCONT)
	}
	for _, c := range services {
		c.ended(polite)
	}
	_, left, err = tree.KillAll(ctx, k.everyone)
	return left, err
}

// tell sends news to the server. It blocks at most a second; a server that does
// not listen counts as dead.
func (s *stage) tell(n news) {
	b, err := encode(n)
	if err != nil {
		b, _ = encode(news{Warn: err.Error()}) // short, so it fits
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	err = s.socket.SetWriteDeadline(time.Now().Add(time.Second))
	if err == nil {
		_, err = s.socket.Write(b)
	}
	if err != nil {
		s.cancel()
	}
}

func (s *stage) event(ev media.DesktopEvent) { s.tell(news{Event: &ev}) }

func (s *stage) warn(format string, args ...any) {
	s.tell(news{Warn: fmt.Sprintf(format, args...)})
}
