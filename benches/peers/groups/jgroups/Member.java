// A member of a JGroups group in the race: java Member MEMBERS RANK STACK.xml. What it is told on its
// standard input, and what it answers, is in the README beside the other members. For JGroups 2.12.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.concurrent.locks.LockSupport;
import org.jgroups.JChannel;
import org.jgroups.Message;
import org.jgroups.ReceiverAdapter;
import org.jgroups.View;

public class Member extends ReceiverAdapter {
    static final int END = 16;
    volatile int members;
    // What was delivered since the last report.
    long messages, first, last, order, disorder, touched;
    int ended, kept;
    final int[] next = new int[64];
    final long[] times = new long[4096];

    public void viewAccepted(View view) {
        members = view.size();
    }

    public synchronized void receive(Message message) {
        long at = System.nanoTime();
        byte[] body = message.getRawBuffer();
        int offset = message.getOffset(), length = message.getLength();
        ByteBuffer head = ByteBuffer.wrap(body, offset, END).order(ByteOrder.LITTLE_ENDIAN);
        long stamp = head.getLong();
        int rank = head.getInt(), number = head.getInt();
        if (next[rank] != number) disorder++;
        next[rank] = number + 1;
        order = (order ^ ((long) rank << 32 | (number & 0xffffffffL))) * 0x0100000001b3L;
        if (length == END) {
            ended++;
            notifyAll();
            return;
        }
        if (messages == 0) first = at;
        last = at;
        messages++;
        for (int i = offset; i < offset + length; i += 64) touched += body[i];
        if (kept < times.length) times[kept++] = at - stamp;
    }

    synchronized String report(int senders) throws InterruptedException {
        while (ended < senders) wait();
        StringBuilder out = new StringBuilder();
        out.append(String.format("{\"messages\":%d,\"nanos\":%d,\"order\":\"%016x\",\"disorder\":%d,"
            + "\"touched\":%d,\"times\":[", messages, last - first, order, disorder, touched));
        for (int i = 0; i < kept; i++) out.append(i == 0 ? "" : ",").append(times[i]);
        messages = first = last = order = disorder = touched = 0;
        ended = kept = 0;
        java.util.Arrays.fill(next, 0);
        return out.append("]}").toString();
    }

    static void send(JChannel channel, int size, long nanos, int rate, int rank) throws Exception {
        long since = System.nanoTime();
        for (int number = 0; ; number++) {
            if (rate > 0) {
                long due = since + 1_000_000_000L / rate * number;
                for (long left; (left = due - System.nanoTime()) > 0; ) LockSupport.parkNanos(left);
            }
            boolean isLast = System.nanoTime() - since >= nanos;
            // The library keeps the array until all have it: one a message.
            byte[] body = new byte[isLast ? END : size];
            java.util.Arrays.fill(body, (byte) 0x5a);
            ByteBuffer.wrap(body).order(ByteOrder.LITTLE_ENDIAN)
                .putLong(System.nanoTime()).putInt(rank).putInt(number);
            channel.send(new Message(null, null, body));
            if (isLast) return;
        }
    }

    public static void main(String[] arguments) throws Exception {
        int members = Integer.parseInt(arguments[0]), rank = Integer.parseInt(arguments[1]);
        Member member = new Member();
        JChannel channel = new JChannel(arguments[2]);
        channel.setReceiver(member);
        channel.connect("race");
        System.out.println("-");
        while (member.members < members) Thread.sleep(20);
        System.out.println("ready");
        BufferedReader tasks = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = tasks.readLine()) != null; ) {
            String[] words = line.trim().split(" ");
            int size = Integer.parseInt(words[0]), rate = Integer.parseInt(words[2]);
            long nanos = Long.parseLong(words[1]) * 1_000_000;
            if (words[4].equals("1")) {
                Thread sender = new Thread(() -> {
                    try {
                        send(channel, size, nanos, rate, rank);
                    } catch (Exception error) {
                        error.printStackTrace();
                        System.exit(1);
                    }
                });
                sender.start();
            }
            System.out.println(member.report(Integer.parseInt(words[3])));
        }
        System.exit(0);
    }
}
