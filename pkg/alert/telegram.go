package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-telegram/bot"
	"github.com/go-telegram/bot/models"
	"golang.org/x/time/rate"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/outbox"
	"example.com/base-app/pkg/text"
	"example.com/base-app/pkg/web"
)

const (
	// pollTime is how long Telegram keeps a question for commands open. Many routers cut
	// a connection that is silent for a minute.
	pollTime = 25 * time.Second
	// pollSlack is what the answer may take beyond that.
	pollSlack = 10 * time.Second
	// maxPost is the longest text, in bytes; Telegram takes 4,096 characters, and nobody reads more on a telephone.
	maxPost = 1000
	// A person asks for the status now and then. More questions than this come from a program.
	statusRate, statusBurst = 1, 3
	// askedPause bounds the pause that Telegram asks for: it may not silence us for a day.
	askedPause = 10 * time.Minute
	// maxUpdates is how many messages of the chat may wait to be looked at.
	maxUpdates = 100
)

// telegram posts to a chat, and answers /status there: https://core.telegram.org/bots/api. It reads nothing else, and
// nobody else's messages.
type telegram struct {
	*sender
	a     *Alerts
	o     Telegram
	chat  int64
	bot   *bot.Bot
	asked *rate.Limiter
}

func (a *Alerts) newTelegram(o Telegram, chat int64) *telegram {
	return &telegram{sender: a.sender(telegramName, alertQueue, alertBurst, alertWindow), a: a, o: o, chat: chat,
		asked: rate.NewLimiter(statusRate, statusBurst)}
}

func (t *telegram) connect(client connector) error {
	// One call waits for commands, another one posts.
	h, err := dial(client, t.service, dependency.Policy{Attempt: pollTime + pollSlack, Total: pollTime + pollSlack, Tries: 1, Concurrent: 2})
	if err != nil {
		return err
	}
	url := t.o.URL
	if url == "" {
		url = DefaultTelegramURL
	}
	t.bot, err = bot.New(t.o.Token, bot.WithSkipGetMe(), bot.WithServerURL(strings.TrimRight(url, "/")),
		bot.WithHTTPClient(pollTime+time.Second, &patient{client: h}),
		bot.WithErrorsHandler(t.failed), bot.WithDefaultHandler(func(context.Context, *bot.Bot, *models.Update) {}),
		bot.WithAllowedUpdates(bot.AllowedUpdates{"message"}), bot.WithNotAsyncHandlers(), bot.WithUpdatesChannelCap(maxUpdates))
	if err != nil {
		return wrong("TELEGRAM_TOKEN", "take what BotFather gave you", "not a bot's token")
	}
	return nil
}

// failed logs what goes wrong while listening.
func (t *telegram) failed(err error) {
	if !errors.Is(err, context.Canceled) {
		t.warnings.Failed(context.Background(), err)
	}
}

// listen answers commands until ctx ends.
func (t *telegram) listen(ctx context.Context, status func() string) {
	t.bot.RegisterHandlerMatchFunc(t.isStatus, func(context.Context, *bot.Bot, *models.Update) { t.answer(status) })
	t.bot.Start(ctx)
}

// answer posts the status. A panic in it, of a check of the app's for example, is part of the answer: the library calls
// handlers in goroutines of its own, where nobody recovers.
func (t *telegram) answer(status func() string) {
	if !t.asked.Allow() {
		return
	}
	var message string
	if err := fault.Recover("telegram", func() error { message = status(); return nil }); err != nil {
		t.warnings.Failed(context.Background(), err)
		message = "the status can't be told: " + err.Error()
	}
	t.post("", Note, message)
}

// isStatus returns whether u is the command, from the one chat that may ask.
func (t *telegram) isStatus(u *models.Update) bool {
	if u.Message == nil || u.Message.Chat.ID != t.chat {
		return false
	}
	word, _, _ := strings.Cut(strings.TrimSpace(u.Message.Text), " ")
	word, _, _ = strings.Cut(word, "@") // /status@our_bot, in groups
	return word == "/status"
}

// offer queues al. A nil telegram discards it.
func (t *telegram) offer(al Alert) {
	if t == nil {
		return
	}
	t.post(al.Key, al.State, map[State]string{Open: "PROBLEM ", Over: "OVER "}[al.State]+t.a.o.App+" on "+t.a.o.Device+": "+al.Summary)
}

func (t *telegram) post(key string, state State, about string) {
	about = text.Ellipsis(t.a.redact(about), maxPost)
	t.sender.offer(item{key: key, state: state, send: func(ctx context.Context, left uint64) error {
		message := about
		if left > 0 {
			message += fmt.Sprintf(" (%d more about it were left out)", left)
		}
		_, err := t.bot.SendMessage(ctx, &bot.SendMessageParams{ChatID: t.chat, Text: message})
		return final(err)
	}})
}

// final returns err as a final one if another try can't help.
func final(err error) error {
	for _, e := range []error{bot.ErrorForbidden, bot.ErrorBadRequest, bot.ErrorUnauthorized, bot.ErrorNotFound, bot.ErrorConflict} {
		if errors.Is(err, e) {
			return outbox.Final(err)
		}
	}
	if _, ok := errors.AsType[*bot.MigrateError](err); ok {
		return outbox.Final(err)
	}
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, form := errors.AsType[*json.UnmarshalTypeError](err)
	if syntax || form {
		return nonsense("%w", err)
	}
	return err
}

// patient is the HTTP client of the library: it waits when Telegram asks for that, and its errors hold no URL.
type patient struct {
	client *http.Client
	mu     sync.Mutex
	until  time.Time // before which nothing is asked
}

// Do makes one call. A panic in it is an error: the library asks for updates in a goroutine of its own, where nobody
// recovers.
func (p *patient) Do(req *http.Request) (answer *http.Response, err error) {
	err = fault.Recover("telegram", func() error {
		answer, err = p.ask(req)
		return err
	})
	return answer, err
}

func (p *patient) ask(req *http.Request) (*http.Response, error) {
	p.mu.Lock()
	wait := time.Until(p.until)
	p.mu.Unlock()
	if end, ok := req.Context().Deadline(); ok && wait > time.Until(end) {
		closeBody(req)
		return nil, outbox.RetryAfter(errAsked, wait)
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-req.Context().Done():
			closeBody(req)
			return nil, context.Cause(req.Context())
		}
	}
	answer, err := p.client.Do(req)
	switch {
	case err != nil:
		return nil, bare(err)
	case answer.StatusCode == http.StatusTooManyRequests:
		return nil, p.slowDown(answer)
	case answer.StatusCode >= 500:
		_ = answer.Body.Close()
		return nil, outbox.RetryAfter(&web.StatusError{Status: answer.StatusCode}, web.RetryAfter(answer.Header, time.Now()))
	}
	return answer, nil
}

var errAsked = errors.New("it wants to be asked later")

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// slowDown reads how long Telegram wants us to wait: in the answer's body, or its header.
func (p *patient) slowDown(answer *http.Response) error {
	defer answer.Body.Close()
	var answered struct {
		Parameters struct {
			RetryAfter int `json:"retry_after"`
		} `json:"parameters"`
	}
	after := web.RetryAfter(answer.Header, time.Now())
	if json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&answered) == nil {
		after = max(after, time.Duration(answered.Parameters.RetryAfter)*time.Second)
	}
	after = min(after, askedPause)
	p.mu.Lock()
	p.until = time.Now().Add(after)
	p.mu.Unlock()
	return outbox.RetryAfter(&web.StatusError{Status: answer.StatusCode}, after)
}
