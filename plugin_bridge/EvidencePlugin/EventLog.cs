using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Threading;

namespace LogonEvidence
{
    /// <summary>Writes what was decided to the Windows Application log, from a thread of its own: a log that is slow,
    /// full or forbidden changes no decision. Holds ids and reason codes, never evidence and never a user's name.</summary>
    public sealed class DecisionLog
    {
        /// <summary>Registered by Install-EvidencePlugin.ps1; FAS itself has no right to.</summary>
        public const string Source = "Logon Evidence Plugin";

        public const int Started = 1;
        public const int Allowed = 1000;
        public const int AllowedInObserveMode = 1001;
        public const int DeniedByService = 2000;
        public const int Suppressed = 3900;

        const int MaxWaiting = 1000;

        sealed class Line
        {
            internal EventLogEntryType Kind;
            internal int Id;
            internal string Text;
        }

        readonly Queue<Line> _waiting = new Queue<Line>();
        readonly Dictionary<int, int> _written = new Dictionary<int, int>();
        readonly Dictionary<int, int> _dropped = new Dictionary<int, int>();
        readonly Func<TimeSpan> _clock;
        TimeSpan _minute;
        bool _writing;
        bool _begun;

        public DecisionLog()
            : this(Monotonic())
        {
        }

        /// <summary>With a clock that only goes forward.</summary>
        public DecisionLog(Func<TimeSpan> clock)
        {
            _clock = clock;
            _minute = clock();
        }

        static Func<TimeSpan> Monotonic()
        {
            Stopwatch watch = Stopwatch.StartNew();
            return delegate { return watch.Elapsed; };
        }

        /// <summary>Note an answer. Never throws.</summary>
        public void Write(EvidenceAnswer answer, bool logAllows, int perMinute)
        {
            try
            {
                if (answer.Failure != Failure.None)
                {
                    Add(EventLogEntryType.Error, (int)answer.Failure, perMinute,
                        "Denied: " + answer.Reason + ". " + Plain(answer.Detail, 500) + Facts(answer));
                }
                else if (!answer.Allowed)
                {
                    Add(EventLogEntryType.Warning, DeniedByService, perMinute,
                        "Denied by the service: " + Code(answer.Reason) + "." + Facts(answer));
                }
                else if (answer.Observed && answer.Reason != WireAnswer.Ok)
                {
                    Add(EventLogEntryType.Warning, AllowedInObserveMode, perMinute,
                        "Allowed in observe mode; enforced, it would be denied: " + Code(answer.Reason) + "." + Facts(answer));
                }
                else if (logAllows)
                {
                    Add(EventLogEntryType.Information, Allowed, perMinute, "Allowed." + Facts(answer));
                }
            }
            catch (Exception)
            {
                // The answer stands, told or not.
            }
        }

        /// <summary>Note something else. Never throws.</summary>
        public void Note(EventLogEntryType kind, int id, string text)
        {
            try
            {
                Add(kind, id, 120, Plain(text, 1000));
            }
            catch (Exception)
            {
                // As above.
            }
        }

        /// <summary>Wait until everything noted so far is written, at most this long. For hosts that end, and tests.</summary>
        public bool Flush(TimeSpan patience)
        {
            Stopwatch watch = Stopwatch.StartNew();
            lock (_waiting)
            {
                while (_waiting.Count > 0 || _writing)
                {
                    TimeSpan left = patience - watch.Elapsed;
                    if (left <= TimeSpan.Zero || !Monitor.Wait(_waiting, left)) return false;
                }
            }
            return true;
        }

        static string Facts(EvidenceAnswer answer)
        {
            return string.Format(CultureInfo.InvariantCulture, "\r\n\r\ndecision: {0}\r\nrequest: {1}\r\nservice: {2}",
                answer.DecisionId.Length == 0 ? "none" : Plain(answer.DecisionId, 64),
                answer.RequestId.Length == 0 ? "none" : Plain(answer.RequestId, 64),
                answer.Service == null ? "none" : answer.Service.Authority);
        }

        static string Code(string reason)
        {
            bool plain = reason.Length <= 64;
            foreach (char letter in reason) plain = plain && (letter == '_' || (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9'));
            return plain ? reason : "(not a reason code)";
        }

        static string Plain(string text, int limit)
        {
            var plain = new StringBuilder();
            foreach (char letter in text)
            {
                if (plain.Length == limit) break;
                plain.Append(letter < ' ' || letter > '~' ? '?' : letter);
            }
            return plain.ToString();
        }

        void Add(EventLogEntryType kind, int id, int perMinute, string text)
        {
            lock (_waiting)
            {
                TurnMinute();
                int written;
                _written.TryGetValue(id, out written);
                if (written >= perMinute || _waiting.Count >= MaxWaiting)
                {
                    int dropped;
                    _dropped.TryGetValue(id, out dropped);
                    _dropped[id] = dropped + 1;
                    return;
                }
                _written[id] = written + 1;
                Put(new Line { Kind = kind, Id = id, Text = text });
            }
        }

        void TurnMinute()
        {
            TimeSpan now = _clock();
            if (now - _minute < TimeSpan.FromMinutes(1)) return;
            _minute = now;
            _written.Clear();
            foreach (KeyValuePair<int, int> dropped in _dropped)
            {
                Put(new Line
                {
                    Kind = EventLogEntryType.Warning,
                    Id = Suppressed,
                    Text = string.Format(CultureInfo.InvariantCulture,
                        "{0} events of id {1} were not written: too many in a minute.", dropped.Value, dropped.Key),
                });
            }
            _dropped.Clear();
        }

        void Put(Line line)
        {
            if (!_begun)
            {
                new Thread(Run, 256 * 1024) { IsBackground = true, Name = "evidence event log" }.Start();
                _begun = true;
            }
            _waiting.Enqueue(line);
            Monitor.PulseAll(_waiting);
        }

        void Run()
        {
            while (true)
            {
                Line line;
                lock (_waiting)
                {
                    _writing = false;
                    Monitor.PulseAll(_waiting);
                    while (_waiting.Count == 0) Monitor.Wait(_waiting);
                    line = _waiting.Dequeue();
                    _writing = true;
                }
                try
                {
                    EventLog.WriteEntry(Source, line.Text, line.Kind, line.Id);
                }
                catch (Exception)
                {
                    // Not registered, full, or no right to write: there is nobody left to tell.
                }
            }
        }
    }
}
